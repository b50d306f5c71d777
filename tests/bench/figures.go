package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"increment-backup-download/tests/harness"
)

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
		figure{Name: "executable, stripped", Unit: "MB", On: onWholeCores, Median: float64(len(content)) / megabyte, Goal: 12.3},
		figure{Name: "executable, zipped", Unit: "MB", On: onWholeCores, Median: float64(zipped.Len()) / megabyte, Goal: 5})
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
	return b.compare(figure{Name: "start, until it asks for work", On: onWholeCores, Unit: "ms", Yardstick: "empty handler"},
		61, take(b.function), take(b.empty))
}

// warm returns an executable that handles batches of the given size over
// connections that are open.
func (b *bench) warm(executable string, at place, events int) (*deployment, func() (float64, error), error) {
	d, err := b.deploy(executable, at)
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.handle(b.ctx, 10*inFlight, event{}); err != nil {
		d.close()
		return nil, nil, err
	}
	return d, func() (float64, error) {
		took, err := d.handle(b.ctx, events, event{})
		return milliseconds(took), err
	}, nil
}

// ideal is the time of so many calls if only DBS took any, at its usual delay.
func ideal(calls, inFlight int) time.Duration {
	return time.Duration((calls+inFlight-1)/inFlight) * dbsDelay
}

func (b *bench) thousand() error {
	f := figure{Name: "1,000 events", On: onWholeCores, Unit: "ms", Yardstick: "DBS alone", Goal: 1.05}
	at := place{delays: true}
	d, take, err := b.warm(b.function, at, 1000)
	if err != nil {
		return err
	}
	defer d.close()
	if err := b.compare(f, 7, take, func() (float64, error) { return milliseconds(ideal(1000, inFlight)), nil }); err != nil {
		return err
	}
	// How much of the rest is the machine's and the stand-ins'.
	minimal, takeMinimal, err := b.warm(b.minimal, at, 1000)
	if err != nil {
		return err
	}
	defer minimal.close()
	f.Yardstick, f.Goal = "minimal client", 0
	return b.compare(f, 7, take, takeMinimal)
}

func (b *bench) thousandDeployed() error {
	if b.noGroup {
		return nil
	}
	events := 1000
	if b.quick {
		events = 300
	}
	var sides [2]func() (float64, error)
	for i, executable := range []string{b.function, b.minimal} {
		d, take, err := b.warm(executable, place{delays: true, deployed: true}, events)
		if err != nil {
			return err
		}
		defer d.close()
		sides[i] = take
	}
	return b.compare(figure{Name: number(float64(events)) + " events", On: onDeployed, Unit: "ms", Yardstick: "minimal client", Goal: 1.45}, 7,
		sides[0], sides[1])
}

func (b *bench) cpu() error {
	return b.compare(figure{Name: "CPU time an event", On: onWholeCores, Unit: "µs", Yardstick: "minimal client", Goal: 1.6}, 7,
		b.cpuOf(b.function, false), b.cpuOf(b.minimal, false))
}

// cpuOf takes the CPU time an event: that of a process that handles many batches minus
// that of one that handles few, so that the start does not count.
func (b *bench) cpuOf(executable string, followed bool) func() (float64, error) {
	const size, few, many = 500, 2, 12
	used := func(batches int) (float64, error) {
		var at place
		if followed {
			at.settings = map[string]string{"SOURCE_QUEUE": harness.SourceQueue}
			at.fill = func(cloud *harness.Cloud) { cloud.DBS.TaskTime = time.Nanosecond }
		}
		d, err := b.deploy(executable, at)
		if err != nil {
			return 0, err
		}
		for range batches {
			_, err := d.handle(b.ctx, size, event{})
			if err == nil && followed {
				err = d.followUp(b, size)
			}
			if err != nil {
				d.close()
				return 0, err
			}
		}
		state := d.close()
		return float64((state.UserTime() + state.SystemTime()).Microseconds()), nil
	}
	return func() (float64, error) {
		base, err := used(few)
		if err != nil {
			return 0, err
		}
		all, err := used(many)
		return (all - base) / ((many - few) * size), err
	}
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
		b.doc.add(figure{Name: fmt.Sprintf("one event, p%v", q.quantile*100), On: onWholeCores, Unit: "ms", Yardstick: "minimal client",
			Median: quantile(samples[0], q.quantile), Of: quantile(samples[1], q.quantile), Goal: q.goal})
	}
	return nil
}

// growth takes the time of batches of growing size.
func (b *bench) growth() error {
	sizes := []int{1, 10, 100, 1000, 10_000}
	if b.quick {
		sizes = sizes[:4]
	}
	for _, n := range sizes {
		b.doc.Growth = append(b.doc.Growth, batch{Events: n, Concurrency: inFlight, Ideal: milliseconds(ideal(n, inFlight))})
	}
	for _, at := range []place{{delays: true}, {delays: true, deployed: true}} {
		if at.deployed && b.noGroup {
			continue
		}
		d, _, err := b.warm(b.function, at, 0)
		if err != nil {
			return err
		}
		defer d.close()
		for i, n := range sizes {
			rounds := 5
			if n >= 1000 {
				rounds = max(1, 3000/n)
			}
			if b.quick {
				rounds = 1
			}
			var samples []float64
			for range rounds {
				took, err := d.handle(b.ctx, n, event{})
				if err != nil {
					return err
				}
				samples = append(samples, milliseconds(took))
			}
			if at.deployed {
				b.doc.Growth[i].Deployed = median(samples)
			} else {
				b.doc.Growth[i].WholeCores = median(samples)
			}
		}
	}
	return nil
}

// concurrency takes the time of one batch at several values of CONCURRENCY.
func (b *bench) concurrency() error {
	levels, events := []int{1, 2, 4, 8, 16, 32, 64}, 640
	if b.quick {
		levels, events = []int{1, 4, 16, 64}, 64
	}
	for _, n := range levels {
		d, err := b.deploy(b.function, place{delays: true, settings: map[string]string{"CONCURRENCY": strconv.Itoa(n)}})
		if err != nil {
			return err
		}
		took, err := d.handle(b.ctx, events, event{})
		d.close()
		if err != nil {
			return err
		}
		b.doc.Concurrency = append(b.doc.Concurrency,
			batch{Events: events, Concurrency: n, WholeCores: milliseconds(took), Ideal: milliseconds(ideal(events, n))})
	}
	return nil
}
