package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/harness"
)

// The delays of the services, and the DBS calls in flight, of most figures.
const (
	dbsDelay = 20 * time.Millisecond
	mnsDelay = 5 * time.Millisecond
	inFlight = 16
)

// place is where an executable runs.
type place struct {
	settings map[string]string
	delays   bool // of the services
	quota    bool // at the deployed size
	tls      bool // DBS and MNS over HTTPS
}

// deployment is an executable that runs against stand-ins of its own.
type deployment struct {
	*harness.Cloud
	*harness.Instance
	secured []secure
	group   *harness.Group
	batches int
	undo    []func()
}

// deployments counts them, for the names of their control groups.
var deployments int

// deploy starts an executable, which has asked for work when it returns.
func (b *bench) deploy(executable string, at place) (*deployment, error) {
	d := &deployment{}
	if err := d.start(b, executable, at); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *deployment) start(b *bench, executable string, at place) (err error) {
	if d.Cloud, err = harness.NewCloud(); err != nil {
		return err
	}
	d.undo = append(d.undo, d.Close)
	d.Timeout = 10 * time.Minute
	if at.delays {
		d.DBS.Delay, d.MNS.Delay = dbsDelay, mnsDelay
	}
	settings := map[string]string{"LOG_LEVEL": "info"}
	for name, value := range at.settings {
		settings[name] = value
	}
	if at.tls {
		dbs, mns := startSecure(d.DBSFaults), startSecure(d.MNSFaults)
		d.secured = []secure{dbs, mns}
		d.undo = append(d.undo, dbs.Close, mns.Close)
		settings["DBS_ENDPOINT"], settings["MNS_ENDPOINT"] = dbs.URL, mns.URL
		if settings["SSL_CERT_FILE"], err = dbs.writeCertificate(b.folder); err != nil {
			return err
		}
	}
	if at.quota {
		deployments++
		if d.group, err = harness.NewGroup(strconv.Itoa(deployments)); err != nil {
			return err
		}
		d.undo = append(d.undo, func() { _ = d.group.Remove() })
		if executable, err = d.group.Wrap(b.folder, executable); err != nil {
			return err
		}
	}
	if d.Instance, err = d.StartInstance(executable, settings); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := d.Runtime.AskedForWork(ctx, 1); err != nil {
		return fmt.Errorf("the executable did not ask for work: %w\n%s", err, d.Output)
	}
	if d.group != nil && !d.group.Has(d.Process().Pid) {
		return errors.New("the executable is not in its control group")
	}
	return nil
}

// close ends the executable and its stand-ins, and returns what it used.
func (d *deployment) close() *os.ProcessState {
	var state *os.ProcessState
	if d.Instance != nil {
		state = d.Stop()
	}
	for _, undo := range slices.Backward(d.undo) {
		undo()
	}
	return state
}

// handle invokes the executable with a batch of events that it has not seen.
func (d *deployment) handle(ctx context.Context, events, padding int) (time.Duration, error) {
	d.batches++
	if d.group != nil {
		// What the batch before has used of the quota is not this one's cost.
		select {
		case <-time.After(2 * harness.QuotaPeriod):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	answer, err := d.Invoke(ctx, payload(d.batches, events, padding))
	return answer.Took, err
}

// payload returns an event stream payload; padding makes each event larger.
func payload(batch, events, padding int) []byte {
	var s bytes.Buffer
	s.WriteByte('[')
	fill := ""
	if padding > 0 {
		fill = fmt.Sprintf(`,"Comment":%q`, strings.Repeat("x", padding))
	}
	for i := range events {
		if i > 0 {
			s.WriteByte(',')
		}
		id := fmt.Sprintf("EB0A77CA8076%08X%012X", batch, i)
		body := fmt.Sprintf(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.%06d","BackupStatus":"COMPLETED","BackupSize":1073742336,"StorageMethod":"Standard"%s}`, i, fill)
		fmt.Fprintf(&s, `{"data":{"requestId":"62BF1E5C3031365E5C2D1F7A","messageId":%q,"messageBody":%q},"id":%q,"source":"acs:mns","specversion":"1.0","type":"mns:Queue:SendMessage",`+
			`"datacontenttype":"application/json; charset=utf-8","time":"2026-11-23T09:00:00.123Z","subject":"acs:mns:cn-hangzhou:1234567890123456:queues/backup-events","aliyunaccountid":"1234567890123456"}`, id, body, id)
	}
	s.WriteByte(']')
	return s.Bytes()
}

// compare takes a figure and its yardstick in turn.
func (b *bench) compare(f figure, rounds int, measure, yardstick func() (float64, error)) error {
	var of []float64
	for range b.rounds(rounds) {
		for _, side := range []struct {
			take func() (float64, error)
			into *[]float64
		}{{measure, &f.Samples}, {yardstick, &of}} {
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			value, err := side.take()
			if err != nil {
				return err
			}
			*side.into = append(*side.into, value)
		}
	}
	f.Median, f.Of = median(f.Samples), median(of)
	b.doc.add(f)
	return nil
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (b *bench) sizes() error {
	content, err := os.ReadFile(b.function)
	if err != nil {
		return err
	}
	var zipped bytes.Buffer
	archive := zip.NewWriter(&zipped)
	archive.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	file, err := archive.Create("bootstrap")
	if err == nil {
		_, err = file.Write(content)
	}
	if err == nil {
		err = archive.Close()
	}
	const megabyte = 1e6
	b.doc.add(
		figure{Name: "executable, stripped", Unit: "MB", Median: float64(len(content)) / megabyte, Goal: 11},
		figure{Name: "executable, zipped", Unit: "MB", Median: float64(zipped.Len()) / megabyte, Goal: 5})
	return err
}

func (b *bench) start() error {
	take := func(executable string) func() (float64, error) {
		return func() (float64, error) {
			cloud, err := harness.NewCloud()
			if err != nil {
				return 0, err
			}
			defer cloud.Close()
			started := time.Now()
			instance, err := cloud.StartInstance(executable, nil)
			if err != nil {
				return 0, err
			}
			defer instance.Stop()
			err = cloud.Runtime.AskedForWork(b.ctx, 1)
			return milliseconds(time.Since(started)), err
		}
	}
	return b.compare(figure{Name: "start: exec to first request for work", On: onWholeCores, Unit: "ms", Yardstick: "empty handler", Goal: 1.15},
		61, take(b.function), take(b.empty))
}

// warm returns an executable that handles batches of the given size over
// connections that are open.
func (b *bench) warm(executable string, at place, events int) (*deployment, func() (float64, error), error) {
	d, err := b.deploy(executable, at)
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.handle(b.ctx, 10*inFlight, 0); err != nil {
		d.close()
		return nil, nil, err
	}
	return d, func() (float64, error) {
		took, err := d.handle(b.ctx, events, 0)
		return milliseconds(took), err
	}, nil
}

// ideal is the time of a batch if only DBS took any, at its usual delay.
func ideal(events int) time.Duration {
	return time.Duration((events+inFlight-1)/inFlight) * dbsDelay
}

func (b *bench) thousand() error {
	d, take, err := b.warm(b.function, place{delays: true}, 1000)
	if err != nil {
		return err
	}
	defer d.close()
	minimal, takeMinimal, err := b.warm(b.minimal, place{delays: true}, 1000)
	if err != nil {
		return err
	}
	defer minimal.close()
	f := figure{Name: "1,000 events, DBS 20 ms, MNS 5 ms, 16 in flight", On: onWholeCores, Unit: "ms"}
	f.Yardstick, f.Goal = "ceil(1000/16) × 20 ms", 1.05
	if err := b.compare(f, 7, take, func() (float64, error) { return milliseconds(ideal(1000)), nil }); err != nil {
		return err
	}
	// How much of the rest is the machine's and the stand-ins'.
	f.Yardstick, f.Goal = "minimal client", 0
	return b.compare(f, 7, take, takeMinimal)
}

func (b *bench) thousandDeployed() error {
	events, name := 1000, "1,000"
	if b.quick {
		events, name = 300, "300"
	}
	f := figure{Name: name + " events, DBS 20 ms, MNS 5 ms, 16 in flight", On: onDeployed, Unit: "ms", Yardstick: "minimal client", Goal: 1.35}
	if f.Why = withoutQuota(); f.Why != "" {
		b.doc.add(f)
		return nil
	}
	var sides [2]func() (float64, error)
	for i, executable := range []string{b.function, b.minimal} {
		d, take, err := b.warm(executable, place{delays: true, quota: true}, events)
		if err != nil {
			return err
		}
		defer d.close()
		sides[i] = take
	}
	return b.compare(f, 7, sides[0], sides[1])
}

// cpu takes the CPU time of a process that handles many batches, less that of one
// that handles a single batch: the start is not counted.
func (b *bench) cpu() error {
	const size, few, many = 500, 2, 12
	used := func(executable string, batches int) (float64, error) {
		d, err := b.deploy(executable, place{})
		if err != nil {
			return 0, err
		}
		for range batches {
			if _, err := d.handle(b.ctx, size, 0); err != nil {
				d.close()
				return 0, err
			}
		}
		state := d.close()
		return float64((state.UserTime() + state.SystemTime()).Microseconds()), nil
	}
	take := func(executable string) func() (float64, error) {
		return func() (float64, error) {
			base, err := used(executable, few)
			if err != nil {
				return 0, err
			}
			all, err := used(executable, many)
			return (all - base) / ((many - few) * size), err
		}
	}
	return b.compare(figure{Name: "CPU per event, batches of 500", On: onWholeCores, Unit: "µs", Yardstick: "minimal client", Goal: 1.5}, 7,
		take(b.function), take(b.minimal))
}

func (b *bench) one() error {
	var sides [2]func() (float64, error)
	for i, executable := range []string{b.function, b.minimal} {
		d, take, err := b.warm(executable, place{}, 1)
		if err != nil {
			return err
		}
		defer d.close()
		sides[i] = take
	}
	n := 2000
	if b.quick {
		n = 300
	}
	var samples [2][]float64
	for range n {
		for i, take := range sides {
			value, err := take()
			if err != nil {
				return err
			}
			samples[i] = append(samples[i], value)
		}
	}
	for _, q := range []struct{ quantile, goal float64 }{{0.5, 1.2}, {0.99, 0}} {
		b.doc.add(figure{Name: fmt.Sprintf("one event, p%v of the invocation", q.quantile*100), On: onWholeCores, Unit: "ms", Yardstick: "minimal client",
			Median: quantile(samples[0], q.quantile), Of: quantile(samples[1], q.quantile), Goal: q.goal})
	}
	return nil
}

// peak returns the peak resident memory of a process, in MB.
func peak(pid int) (float64, error) {
	// Not the usage that the system keeps for the parent: it starts with the
	// memory of this process, which the child has for a moment.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kilobytes); err == nil {
			return kilobytes / 1024, nil
		}
	}
	return 0, errors.New("the system does not report the peak memory of a process")
}

// peakAfter returns the peak memory of an executable that has handled batches.
func (b *bench) peakAfter(executable string, batches, events, padding int) func() (float64, error) {
	return func() (float64, error) {
		d, err := b.deploy(executable, place{})
		if err != nil {
			return 0, err
		}
		defer d.close()
		for range batches {
			if _, err := d.handle(b.ctx, events, padding); err != nil {
				return 0, err
			}
		}
		return peak(d.Process().Pid)
	}
}

// withoutPeak returns why peak memory cannot be measured here, or nothing.
func withoutPeak() string {
	if _, err := peak(os.Getpid()); err != nil {
		return err.Error()
	}
	return ""
}

func (b *bench) memoryLarge() error {
	const events = 10_000
	f := figure{Name: "peak memory, 10,000 events in a 32 MB payload", On: onWholeCores, Unit: "MB", Yardstick: "empty handler", Goal: 1.25}
	if f.Why = withoutPeak(); f.Why != "" {
		b.doc.add(f)
		return nil
	}
	padding := 32_000_000/events - len(payload(1, 1, 1))
	return b.compare(f, 5, b.peakAfter(b.function, 1, events, padding), b.peakAfter(b.empty, 1, events, padding))
}

func (b *bench) memorySmall() error {
	f := figure{Name: "peak memory, batches of 100", On: onWholeCores, Unit: "MB", Goal: 40}
	if f.Why = withoutPeak(); f.Why != "" {
		b.doc.add(f)
		return nil
	}
	for range b.rounds(5) {
		value, err := b.peakAfter(b.function, 20, 100, 0)()
		if err != nil {
			return err
		}
		f.Samples = append(f.Samples, value)
	}
	f.Median = median(f.Samples)
	b.doc.add(f)
	return nil
}

func (b *bench) growth() error { return b.grow(onWholeCores, place{delays: true}) }

func (b *bench) growthDeployed() error {
	if withoutQuota() != "" {
		return nil // said by the row of this size
	}
	return b.grow(onDeployed, place{delays: true, quota: true})
}

func (b *bench) grow(name string, at place) error {
	l := line{Name: name}
	sizes := []int{1, 10, 100, 1000, 10_000}
	if b.quick {
		sizes = sizes[:4]
	}
	d, _, err := b.warm(b.function, at, 0)
	if err != nil {
		return err
	}
	defer d.close()
	for _, n := range sizes {
		rounds := 5
		if n >= 1000 {
			rounds = max(1, 3000/n)
		}
		if b.quick {
			rounds = 1
		}
		var samples []float64
		for range rounds {
			took, err := d.handle(b.ctx, n, 0)
			if err != nil {
				return err
			}
			samples = append(samples, took.Seconds())
		}
		l.Points = append(l.Points, point{n, median(samples)})
	}
	b.doc.Growth = append(b.doc.Growth, l)
	return nil
}

func (b *bench) concurrency() error {
	levels := []int{1, 2, 4, 8, 16, 32, 64}
	events := 640
	if b.quick {
		levels, events = []int{1, 4, 16, 64}, 64
	}
	for _, n := range levels {
		d, err := b.deploy(b.function, place{delays: true, settings: map[string]string{"CONCURRENCY": strconv.Itoa(n)}})
		if err != nil {
			return err
		}
		took, err := d.handle(b.ctx, events, 0)
		most := d.DBSServer.Connections().Peak
		d.close()
		if err != nil {
			return err
		}
		if most > n {
			return fmt.Errorf("%d connections to DBS with CONCURRENCY %d", most, n)
		}
		b.doc.Concurrency = append(b.doc.Concurrency, point{n, took.Seconds() / float64(events)})
	}
	return nil
}
