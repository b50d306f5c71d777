// Command bench measures the built executable of the function against the
// stand-ins, each figure beside a yardstick that is taken in the same run, in
// turn, so that a noisy machine disturbs both alike.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"increment-backup-download/tests/harness"
)

const usage = `Measure the built executable against the stand-ins.

Each figure stands beside a yardstick taken in the same run, in turn; the ratio is that of
the medians. Absolute times depend on the machine, ratios hardly.

Usage:
  go run ./tests/bench [flags]

Flags:
  -quick     fewer rounds and smaller batches: half a minute instead of a few
  -json      print one JSON document instead of tables
  -svg FILE  write the growth of the cost as a picture, too
  -h         print this

Exit status: 0, also where a figure misses its goal, since machines differ; 1 if something
could not be measured; 2 for a wrong flag.
`

type options struct {
	quick bool
	json  bool
	svg   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&opts.quick, "quick", false, "")
	flags.BoolVar(&opts.json, "json", false, "")
	flags.StringVar(&opts.svg, "svg", "", "")
	err := flags.Parse(arguments)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "bench: %v\nRun with -h for help.\n", err)
		return 2
	}
	b := &bench{options: opts, ctx: ctx, stdout: stdout, stderr: stderr}
	if err := b.run(); err != nil {
		_, _ = fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// figure is one measured figure: the medians of it and of its yardstick.
type figure struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"`
	Median    float64   `json:"median"`
	Yardstick string    `json:"yardstick,omitempty"`
	Of        float64   `json:"yardstickMedian,omitempty"`
	Ratio     float64   `json:"ratio,omitempty"`
	Goal      float64   `json:"goal,omitempty"` // of the ratio, or of the median where there is no yardstick
	Missed    bool      `json:"missed,omitempty"`
	Samples   []float64 `json:"samples,omitempty"`
}

// misses reports whether the figure is beyond the goal that it has.
func (f figure) misses() bool {
	if f.Of != 0 {
		return f.Goal != 0 && f.Ratio > f.Goal
	}
	return f.Goal != 0 && f.Median > f.Goal
}

// point is the cost of one size of batch or one CONCURRENCY.
type point struct {
	X       int     `json:"x"`
	Seconds float64 `json:"seconds"`
}

type document struct {
	Figures     []figure `json:"figures"`
	Events      []point  `json:"events"`
	Concurrency []point  `json:"concurrency"`
}

type bench struct {
	options
	ctx            context.Context //nolint:containedctx // of the one run
	stdout, stderr io.Writer
	bar            *progressbar.ProgressBar

	function, empty, minimal string // executables
	doc                      document
}

// rounds is how often each figure is taken.
func (b *bench) rounds(full int) int {
	if b.quick {
		return min(full, 3)
	}
	return full
}

func (b *bench) run() error {
	folder, err := os.MkdirTemp("", "increment-backup-download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b.bar = progressbar.NewOptions(9, progressbar.OptionSetWriter(b.stderr), progressbar.OptionSetDescription("building"),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	for target, into := range map[string]*string{"./bootstrap": &b.function, "./tests/bench/empty": &b.empty, "./tests/bench/minimal": &b.minimal} {
		if *into, err = harness.Build(b.ctx, folder, target); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		name    string
		measure func() error
	}{
		{"sizes", b.sizes}, {"start", b.start}, {"1,000 events", b.thousand}, {"CPU", b.cpu}, {"one event", b.one},
		{"memory, 32 MB", b.memoryLarge}, {"memory, batches", b.memorySmall}, {"growth", b.growth}, {"concurrency", b.concurrency},
	} {
		if _, err := os.Stat("/proc/self/status"); err != nil && strings.HasPrefix(step.name, "memory") {
			continue // only Linux tells the peak of a process
		}
		b.bar.Describe(step.name)
		if err := step.measure(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		_ = b.bar.Add(1)
	}
	_ = b.bar.Finish()
	for i, f := range b.doc.Figures {
		b.doc.Figures[i].Missed = f.misses()
	}
	if b.svg != "" {
		if err := draw(b.svg, b.doc); err != nil {
			return err
		}
	}
	if b.json {
		return json.NewEncoder(b.stdout).Encode(b.doc)
	}
	b.print()
	return nil
}

// deployment is an executable that runs against stand-ins of its own.
type deployment struct {
	*harness.Cloud
	*harness.Instance
	rounds int
}

func (b *bench) deploy(executable string, settings map[string]string) (*deployment, error) {
	cloud, err := harness.NewCloud()
	if err != nil {
		return nil, err
	}
	if settings == nil {
		settings = map[string]string{}
	}
	if settings["LOG_LEVEL"] == "" {
		settings["LOG_LEVEL"] = "info"
	}
	instance, err := cloud.StartInstance(executable, settings)
	if err != nil {
		cloud.Close()
		return nil, err
	}
	return &deployment{Cloud: cloud, Instance: instance}, nil
}

func (d *deployment) close() *os.ProcessState {
	state := d.Stop()
	d.Close()
	return state
}

// handle invokes the executable with a batch of events that it has not seen.
func (d *deployment) handle(ctx context.Context, events, padding int) (time.Duration, error) {
	d.rounds++
	answer, err := d.Invoke(ctx, payload(d.rounds, events, padding))
	return answer.Took, err
}

// payload returns an event stream payload; padding makes each event larger.
func payload(round, events, padding int) []byte {
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
		id := fmt.Sprintf("EB0A77CA8076%08X%012X", round, i)
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
	f.Ratio = f.Median / f.Of
	b.doc.Figures = append(b.doc.Figures, f)
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
	b.doc.Figures = append(b.doc.Figures,
		figure{Name: "executable, stripped", Unit: "MB", Median: float64(len(content)) / megabyte, Goal: 12.5},
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
			return float64(time.Since(started).Microseconds()) / 1000, err
		}
	}
	return b.compare(figure{Name: "start: exec to first request for work", Unit: "ms", Yardstick: "empty handler", Goal: 1.5},
		31, take(b.function), take(b.empty))
}

func (b *bench) thousand() error {
	d, err := b.deploy(b.function, nil)
	if err != nil {
		return err
	}
	defer d.close()
	d.DBS.Delay, d.MNS.Delay = 20*time.Millisecond, 5*time.Millisecond
	ideal := func() (float64, error) { return float64((1000+15)/16) * 20, nil }
	// The first batch opens the connections.
	if _, err := d.handle(b.ctx, 16, 0); err != nil {
		return err
	}
	return b.compare(figure{Name: "1,000 events, DBS 20 ms, MNS 5 ms, 16 in flight", Unit: "ms", Yardstick: "ceil(1000/16) × 20 ms", Goal: 1.1}, 7,
		func() (float64, error) {
			took, err := d.handle(b.ctx, 1000, 0)
			return float64(took.Microseconds()) / 1000, err
		}, ideal)
}

// cpu takes the CPU time of a process that handles many batches, less that of one
// that handles a single batch: the start is not counted.
func (b *bench) cpu() error {
	const size, few, many = 500, 2, 12
	used := func(executable string, batches int) (float64, error) {
		d, err := b.deploy(executable, nil)
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
	return b.compare(figure{Name: "CPU per event, batches of 500", Unit: "µs", Yardstick: "minimal client", Goal: 3}, 7, take(b.function), take(b.minimal))
}

func (b *bench) one() error {
	function, err := b.deploy(b.function, nil)
	if err != nil {
		return err
	}
	defer function.close()
	minimal, err := b.deploy(b.minimal, nil)
	if err != nil {
		return err
	}
	defer minimal.close()
	n := 2000
	if b.quick {
		n = 300
	}
	var samples [2][]float64
	for i := range n {
		for side, d := range []*deployment{function, minimal} {
			took, err := d.handle(b.ctx, 1, 0)
			if err != nil {
				return err
			}
			if i >= 20 {
				samples[side] = append(samples[side], float64(took.Microseconds())/1000)
			}
		}
	}
	for _, q := range []float64{0.5, 0.99} {
		f := figure{Name: fmt.Sprintf("one event, p%v of the invocation", q*100), Unit: "ms", Yardstick: "minimal client",
			Median: quantile(samples[0], q), Of: quantile(samples[1], q)}
		f.Ratio = f.Median / f.Of
		b.doc.Figures = append(b.doc.Figures, f)
	}
	return nil
}

// peak returns the peak resident memory of an executable, in MB.
func (b *bench) peak(executable string, batches, events, padding int) func() (float64, error) {
	return func() (float64, error) {
		d, err := b.deploy(executable, nil)
		if err != nil {
			return 0, err
		}
		for range batches {
			if _, err := d.handle(b.ctx, events, padding); err != nil {
				d.close()
				return 0, err
			}
		}
		defer d.close()
		// Not the usage that the system keeps for the parent: it starts with the
		// memory of this process, which the child has for a moment.
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process().Pid))
		if err != nil {
			return 0, fmt.Errorf("memory is measured on Linux only: %w", err)
		}
		for line := range strings.Lines(string(status)) {
			var kilobytes float64
			if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kilobytes); err == nil {
				return kilobytes / 1024, nil
			}
		}
		return 0, errors.New("the system does not tell the peak memory of a process")
	}
}

func (b *bench) memoryLarge() error {
	const events = 10_000
	padding := 32_000_000/events - len(payload(1, 1, 1))
	return b.compare(figure{Name: "peak memory, 10,000 events in a 32 MB payload", Unit: "MB", Yardstick: "empty handler", Goal: 1.25}, 5,
		b.peak(b.function, 1, events, padding), b.peak(b.empty, 1, events, padding))
}

func (b *bench) memorySmall() error {
	var samples []float64
	for range b.rounds(5) {
		value, err := b.peak(b.function, 20, 100, 0)()
		if err != nil {
			return err
		}
		samples = append(samples, value)
	}
	b.doc.Figures = append(b.doc.Figures, figure{Name: "peak memory, batches of 100", Unit: "MB", Median: median(samples), Samples: samples, Goal: 40})
	return nil
}

func (b *bench) growth() error {
	sizes := []int{1, 10, 100, 1000, 10_000}
	if b.quick {
		sizes = sizes[:4]
	}
	d, err := b.deploy(b.function, nil)
	if err != nil {
		return err
	}
	defer d.close()
	for _, n := range sizes {
		var samples []float64
		for range b.rounds(5) {
			took, err := d.handle(b.ctx, n, 0)
			if err != nil {
				return err
			}
			samples = append(samples, took.Seconds())
		}
		b.doc.Events = append(b.doc.Events, point{n, median(samples)})
	}
	return nil
}

func (b *bench) concurrency() error {
	levels := []int{1, 2, 4, 8, 16, 32, 64}
	events := 640
	if b.quick {
		levels, events = []int{1, 4, 16, 64}, 64
	}
	for _, n := range levels {
		d, err := b.deploy(b.function, map[string]string{"CONCURRENCY": strconv.Itoa(n)})
		if err != nil {
			return err
		}
		d.DBS.Delay, d.MNS.Delay = 20*time.Millisecond, 5*time.Millisecond
		took, err := d.handle(b.ctx, events, 0)
		peak := d.DBSServer.Connections().Peak
		d.close()
		if err != nil {
			return err
		}
		if peak > n {
			return fmt.Errorf("%d connections to DBS with CONCURRENCY %d", peak, n)
		}
		b.doc.Concurrency = append(b.doc.Concurrency, point{n, took.Seconds() / float64(events)})
	}
	return nil
}

func (b *bench) print() {
	newTable := func(columns ...any) table.Writer {
		t := table.NewWriter()
		t.SetOutputMirror(b.stdout)
		t.SetStyle(table.StyleRounded)
		t.AppendHeader(columns)
		return t
	}
	t := newTable("figure", "median", "yardstick", "its median", "ratio", "goal")
	for _, f := range b.doc.Figures {
		row := table.Row{f.Name, fmt.Sprintf("%.2f %s", f.Median, f.Unit), f.Yardstick, "", "", ""}
		if f.Of != 0 {
			row[3], row[4] = fmt.Sprintf("%.2f %s", f.Of, f.Unit), fmt.Sprintf("%.2f", f.Ratio)
		}
		if f.Goal != 0 {
			row[5] = fmt.Sprintf("%g", f.Goal)
			if f.Missed {
				row[5] = fmt.Sprintf("%g MISSED", f.Goal)
			}
		}
		t.AppendRow(row)
	}
	t.Render()
	t = newTable("events in a batch", "invocation", "an event")
	for _, p := range b.doc.Events {
		t.AppendRow(table.Row{p.X, fmt.Sprintf("%.1f ms", p.Seconds*1000), fmt.Sprintf("%.0f µs", p.Seconds*1e6/float64(p.X))})
	}
	t.Render()
	t = newTable("concurrency", "an event, DBS 20 ms", "ideal")
	for _, p := range b.doc.Concurrency {
		t.AppendRow(table.Row{p.X, fmt.Sprintf("%.2f ms", p.Seconds*1000), fmt.Sprintf("%.2f ms", 20/float64(p.X))})
	}
	t.Render()
}
