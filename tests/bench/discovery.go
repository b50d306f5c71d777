package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

const (
	// deployedTimeout is the function's in s.yaml.
	deployedTimeout = 300 * time.Second
	// month is the sets, one an hour, of the day of lookback and the 30 days before it
	// that discovery asks for.
	month = 31 * 24
)

// withoutTask is how many of the newest sets of each plan have no task.
const withoutTask = 10

// discoveryRun is what one run of discovery costs.
type discoveryRun struct {
	Case      string  `json:"case"`
	On        string  `json:"on"`
	Ended     string  `json:"ended"`
	ListCalls int     `json:"listCalls"`
	Seconds   float64 `json:"seconds"`
	Ideal     float64 `json:"ideal"` // if only DBS took any time
	PeakMB    float64 `json:"peakMB,omitempty"`
}

// discoveryCase is a timer event, and what DBS lists.
type discoveryCase struct {
	name     string
	plans    int
	sets     int           // of each plan, all listed
	tasks    int           // of each plan: the newest of its sets have none, the oldest tasks no set
	spacing  time.Duration // of sets and tasks
	lookback int           // hours
	delay    time.Duration // of DBS
}

func planID(i int) string { return fmt.Sprintf("dbsqdss5tmh%04d", i) }

// setting names the plan, or asks for all of many.
func (c discoveryCase) setting() string {
	if c.plans == 1 {
		return planID(0)
	}
	return "all"
}

// fill lets DBS list the sets and tasks of each plan.
func (c discoveryCase) fill(cloud *harness.Cloud) {
	cloud.DBS.Delay = c.delay
	newest := time.Now().Add(-2 * time.Hour)
	for i := range c.plans {
		id, job := planID(i), fmt.Sprintf("t4yh0g0g%04d", i)
		for age := max(c.sets, withoutTask+c.tasks) - 1; age >= 0; age-- {
			name := fmt.Sprintf("mysql-bin.%06d", 900_000-age)
			start := newest.Add(-time.Duration(age) * c.spacing)
			if age < c.sets {
				cloud.DBS.AddSet(id, dbs.Set{JobID: job, Name: name, Start: start, End: start.Add(time.Minute), Size: 1 << 30})
			}
			if withoutTask <= age && age < withoutTask+c.tasks {
				cloud.DBS.AddTask(id, dbs.ListedTask{JobID: job, SetName: name, Status: "finish",
					Created: start.Add(2 * time.Minute), Finished: start.Add(3 * time.Minute)})
			}
		}
	}
}

// discover lets a fresh instance handle one timer event.
func (b *bench) discover(c discoveryCase, deployed bool) (discoveryRun, error) {
	r := discoveryRun{Case: c.name, On: onWholeCores}
	if deployed {
		r.On = onDeployed
	}
	d, err := b.deploy(b.function, place{delays: true, deployed: deployed, fill: c.fill, settings: map[string]string{
		"BACKUP_PLAN_IDS": c.setting(), "SOURCE_QUEUE": harness.SourceQueue, "LOOKBACK_HOURS": strconv.Itoa(c.lookback),
	}})
	if err != nil {
		return r, err
	}
	defer d.close()
	d.Timeout = deployedTimeout
	o, err := d.invoke(b, []byte(`{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"discovery","payload":""}`))
	if err != nil {
		return r, err
	}
	if n, want := len(d.MNS.Messages(harness.SourceQueue)), c.plans*withoutTask; o.ended == answered && n != want {
		return r, fmt.Errorf("%s: %d backup sets were announced, not %d: %.300s", c.name, n, want, o.answer)
	}
	if o.ended == failed {
		b.doc.Notes = append(b.doc.Notes, fmt.Sprintf("%s, on %s: %.300s", c.name, r.On, o.answer))
	}
	r.Ended, r.Seconds = o.ended, o.seconds
	if o.ended != killed {
		r.PeakMB, _ = peak(d.Process().Pid) // not on every system
	}
	r.ListCalls = d.DBS.CallsOf(dbs.ActionListPlans) + d.DBS.CallsOf(dbs.ActionListSets) + d.DBS.CallsOf(dbs.ActionListTasks)
	r.Ideal = (time.Duration((r.ListCalls+inFlight-1)/inFlight) * c.delay).Seconds()
	return r, nil
}

// history takes a run over one plan that gets a set every hour, by how many tasks
// were ever made.
func (b *bench) history() error {
	tasks := []int{1000, 20_000, 100_000}
	if b.quick {
		tasks = tasks[:2]
	}
	for _, n := range tasks {
		c := discoveryCase{name: number(float64(n)) + " tasks of history", plans: 1, sets: month, tasks: n,
			spacing: time.Hour, lookback: 24, delay: dbsDelay}
		if err := b.discovered(c, 3, !b.quick); err != nil {
			return err
		}
	}
	return nil
}

// lookbackCase is a plan with so many sets in the default lookback.
func lookbackCase(sets int) discoveryCase {
	return discoveryCase{name: number(float64(sets)) + " sets in the lookback", plans: 1, sets: sets, tasks: sets - withoutTask,
		spacing: 69 * time.Hour / time.Duration(sets), lookback: 72, delay: dbsDelay}
}

// lookback takes a run over one plan, by how many sets it has in the lookback.
func (b *bench) lookback() error {
	sets := []int{1000, 10_000, 100_000}
	if b.quick {
		sets = sets[:1]
	}
	for _, n := range sets {
		rounds := 3
		if n == 100_000 {
			rounds = 1
		}
		if err := b.discovered(lookbackCase(n), rounds, n == 100_000); err != nil {
			return err
		}
	}
	return nil
}

// plans takes one run over many plans, each of which gets a set every hour.
func (b *bench) plans() error {
	plans := 250
	if b.quick {
		plans = 25
	}
	c := discoveryCase{name: fmt.Sprintf("%d plans, DBS 100 ms", plans), plans: plans, sets: month, tasks: month,
		spacing: time.Hour, lookback: 24, delay: 100 * time.Millisecond}
	return b.discovered(c, 1, true)
}

// discovered takes a case on whole cores and, if asked for, at the deployed size: the
// median run of several by its time.
func (b *bench) discovered(c discoveryCase, rounds int, deployed bool) error {
	if b.quick {
		rounds = 1
	}
	for _, on := range []bool{false, true} {
		if on && (b.noGroup || !deployed) {
			continue
		}
		runs := make([]discoveryRun, rounds)
		for i := range runs {
			var err error
			if runs[i], err = b.discover(c, on); err != nil {
				return err
			}
		}
		slices.SortFunc(runs, func(a, b discoveryRun) int { return cmp.Compare(a.Seconds, b.Seconds) })
		b.doc.Discovery = append(b.doc.Discovery, runs[rounds/2])
	}
	return nil
}
