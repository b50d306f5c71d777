package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// largest is about the size of the largest payload that Function Compute takes, in bytes.
const largest = 32_000_000

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
func (b *bench) peakAfter(executable string, batches, events int, each event) func() (float64, error) {
	return func() (float64, error) {
		d, err := b.deploy(executable, place{})
		if err != nil {
			return 0, err
		}
		defer d.close()
		for range batches {
			if _, err := d.handle(b.ctx, events, each); err != nil {
				return 0, err
			}
		}
		return peak(d.Process().Pid)
	}
}

func (b *bench) memory() error {
	if _, err := peak(os.Getpid()); err != nil {
		b.doc.Notes = append(b.doc.Notes, "Peak memory was not measured: "+err.Error()+".")
		return nil
	}
	const events = 10_000
	padding := event{padding: largest/events - len(payload(1, 1, event{padding: 1}))}
	if err := b.compare(figure{Name: "peak, 10,000 events in 32 MB", On: onWholeCores, Unit: "MB", Yardstick: "empty handler", Goal: 1.25}, 5,
		b.peakAfter(b.function, 1, events, padding), b.peakAfter(b.empty, 1, events, padding)); err != nil {
		return err
	}
	return b.compare(figure{Name: "peak, 20 batches of 100", On: onWholeCores, Unit: "MB", Yardstick: "empty handler"}, 5,
		b.peakAfter(b.function, 20, 100, event{}), b.peakAfter(b.empty, 20, 100, event{}))
}
