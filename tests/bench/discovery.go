package main

import (
	"fmt"
	"time"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

// The backup plan of the discovery figures, of whose sets this many have no task.
const (
	discoveryPlan    = "dbsqdss5tmh0001"
	discoveryWithout = 10
)

// discoveryPoint is what one discovery run over a plan costs.
type discoveryPoint struct {
	Sets      int     `json:"sets"`
	ListCalls int     `json:"listCalls"`
	Seconds   float64 `json:"seconds"`
	PeakMB    float64 `json:"peakMB,omitempty"`
}

// discover lets a fresh instance handle one timer event, over a plan whose sets
// have a task each but for the last few.
func (b *bench) discover(executable string, sets int) (discoveryPoint, error) {
	p := discoveryPoint{Sets: sets}
	d, err := b.deploy(executable, place{delays: true, settings: map[string]string{
		"BACKUP_PLAN_IDS": discoveryPlan, "SOURCE_QUEUE": harness.SourceQueue,
	}})
	if err != nil {
		return p, err
	}
	defer d.close()
	const job = "t4yh0g0g0001"
	oldest := time.Now().Add(-70 * time.Hour) // within the default lookback
	for i := range sets {
		name := fmt.Sprintf("mysql-bin.%06d", i)
		start := oldest.Add(time.Duration(i) * 69 * time.Hour / time.Duration(sets))
		d.DBS.AddSet(discoveryPlan, dbs.Set{JobID: job, Name: name, Start: start, End: start.Add(time.Minute), Size: 1 << 30})
		if i < sets-discoveryWithout {
			d.DBS.AddTask(discoveryPlan, dbs.ListedTask{JobID: job, SetName: name, Status: "finish",
				Created: start.Add(2 * time.Minute), Finished: start.Add(3 * time.Minute)})
		}
	}
	answer, err := d.Invoke(b.ctx, []byte(`{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"discovery","payload":""}`))
	if err != nil {
		return p, err
	}
	p.Seconds = answer.Took.Seconds()
	p.ListCalls = d.DBS.CallsOf(dbs.ActionListSets) + d.DBS.CallsOf(dbs.ActionListTasks)
	if p.ListCalls > 0 { // the empty handler makes none
		if n := len(d.MNS.Messages(harness.SourceQueue)); n != discoveryWithout {
			return p, fmt.Errorf("%d backup sets were announced, not %d: %s", n, discoveryWithout, answer.Payload)
		}
	}
	if withoutPeak() == "" {
		p.PeakMB, err = peak(d.Process().Pid)
	}
	return p, err
}

// discovery takes one run over 10,000 backup sets, of which 9,990 have a task, and
// how a run grows with the plan.
func (b *bench) discovery() error {
	const sets = 10_000
	const pages = (sets+99)/100 + (sets-discoveryWithout+99)/100
	calls := figure{Name: "discovery, 10,000 sets with 9,990 tasks: list calls", Unit: "calls", Goal: pages + 4}
	took := figure{Name: "discovery, 10,000 sets with 9,990 tasks: one run", On: onWholeCores, Unit: "ms", Yardstick: "empty handler"}
	memory := figure{Name: "discovery, 10,000 sets with 9,990 tasks: peak memory", On: onWholeCores, Unit: "MB", Yardstick: "empty handler", Why: withoutPeak()}
	var samples [2]struct{ took, memory []float64 }
	for range b.rounds(5) {
		for i, executable := range []string{b.function, b.empty} {
			p, err := b.discover(executable, sets)
			if err != nil {
				return err
			}
			samples[i].took = append(samples[i].took, p.Seconds*1000)
			samples[i].memory = append(samples[i].memory, p.PeakMB)
			calls.Median = max(calls.Median, float64(p.ListCalls))
		}
	}
	took.Samples, took.Median, took.Of = samples[0].took, median(samples[0].took), median(samples[1].took)
	memory.Samples, memory.Median, memory.Of = samples[0].memory, median(samples[0].memory), median(samples[1].memory)
	b.doc.add(calls, took, memory)

	sizes := []int{1000, 10_000, 100_000}
	if b.quick {
		sizes = sizes[:2]
	}
	for _, n := range sizes {
		p, err := b.discover(b.function, n)
		if err != nil {
			return err
		}
		b.doc.Discovery = append(b.doc.Discovery, p)
	}
	return nil
}
