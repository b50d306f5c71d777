package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

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
