package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// Scenario is a run of generated events from the source queue through the
// function. One seed gives the same events, faults and moments of the kills; how
// they meet is up to the machine's scheduling.
type Scenario struct {
	Events    int // backup events; repeats come on top
	Seed      uint64
	FaultRate float64 // share of the calls to DBS and MNS that go wrong
	Mixed     bool    // a tenth each of repeated, malformed and refused events
	Kills     bool    // SIGKILL at random moments
	BatchSize int     // 0 means 100
	Progress  func(done int)
}

// Report is what a scenario came to.
type Report struct {
	Seed             uint64        `json:"seed"`
	Events           int           `json:"events"`   // distinct backup events
	Messages         int           `json:"messages"` // messages in the source queue
	Tasks            int           `json:"tasks"`
	DBSCalls         int           `json:"dbsCalls"`
	Results          int           `json:"results"`
	DuplicateResults int           `json:"duplicateResults"`
	DeadLetters      int           `json:"deadLetters"`
	Deliveries       int           `json:"deliveries"`
	FailedDeliveries int           `json:"failedDeliveries"`
	Kills            int           `json:"kills"`
	Faults           int           `json:"faults"`
	Took             time.Duration `json:"tookNs"`
	// Violations are breaches of the promise: lost events, double tasks, tasks
	// without a result, failed events that are not in the dead-letter queue.
	Violations []string `json:"violations,omitempty"`
}

// expectation is what must become of one distinct event.
type expectation struct {
	id     string // of the event and of its result
	body   string
	failed bool
}

// Faults returns the faults that a scenario draws from, one of each.
func Faults() []standin.Fault {
	return []standin.Fault{
		{Kind: standin.Hang}, {Kind: standin.HangAfter},
		{Kind: standin.Latency, Delay: 50 * time.Millisecond},
		{Kind: standin.Throttle, Delay: 30 * time.Millisecond},
		{Kind: standin.Throttle},
		{Kind: standin.Refuse, Status: http.StatusInternalServerError, Code: "InternalError"},
		{Kind: standin.Refuse, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"},
		{Kind: standin.Refuse, Status: http.StatusBadRequest, Code: "NobodyKnowsThisCode"},
		{Kind: standin.Reset}, {Kind: standin.ResetAfter}, {Kind: standin.Close}, {Kind: standin.CloseAfter},
		{Kind: standin.TruncateAfter}, {Kind: standin.HTMLAfter}, {Kind: standin.BadGateway}, {Kind: standin.EmptyAfter},
		{Kind: standin.Redirect, Location: "http://127.0.0.1:1/"}, {Kind: standin.Partial},
	}
}

// weighted repeats the faults that end a call, but those that hang: each of these
// takes what is left of the invocation's time. DBS knows no batch to refuse in part.
func weighted(batches bool) []standin.Fault {
	all := Faults()
	faults := all[:2:2]
	for range 12 {
		for _, f := range all[2:] {
			if f.Kind != standin.Latency && (f.Kind != standin.Partial || batches) {
				faults = append(faults, f)
			}
		}
	}
	return faults
}

// Run puts the scenario's events into the source queue, delivers them to the
// instance until the queue is empty, and checks what became of each.
func (s Scenario) Run(ctx context.Context, c *Cloud, instance *Instance) (Report, error) {
	random := rand.New(rand.NewPCG(s.Seed, 1)) //nolint:gosec // G404: replayable on purpose
	report := Report{Seed: s.Seed, Events: s.Events}
	expected, err := s.fill(c, random)
	if err != nil {
		return report, err
	}
	report.Messages = len(c.MNS.Messages(SourceQueue))
	if s.FaultRate > 0 {
		c.DBSFaults.SetPlan(standin.Randomly(s.FaultRate, s.Seed+2, weighted(false)))
		c.MNSFaults.SetPlan(standin.Randomly(s.FaultRate, s.Seed+3, weighted(true)))
		defer c.DBSFaults.SetPlan(nil)
		defer c.MNSFaults.SetPlan(nil)
	}

	background, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	var kills atomic.Int64
	if s.Kills {
		helpers.Go(func() {
			moments := rand.New(rand.NewPCG(s.Seed, 4)) //nolint:gosec // G404: replayable on purpose
			// A batch has to fit into a life of the process now and then, and takes the
			// longer the more calls fail: the lives are as random, and as long.
			mean := 750 * float64(time.Millisecond) / math.Pow(1-s.FaultRate, 5)
			for {
				select {
				case <-time.After(100*time.Millisecond + time.Duration(moments.ExpFloat64()*mean)):
					instance.Kill()
					kills.Add(1)
				case <-background.Done():
					return
				}
			}
		})
	}
	if s.Progress != nil {
		helpers.Go(func() {
			for {
				s.Progress(min(len(c.MNS.Messages(ResultQueue)), s.Events))
				select {
				case <-time.After(100 * time.Millisecond):
				case <-background.Done():
					return
				}
			}
		})
	}

	started := time.Now()
	trigger := c.Trigger(s.BatchSize)
	if s.BatchSize == 0 {
		trigger.BatchSize = 100
	}
	if s.Mixed {
		trigger.Duplicate = func() bool { return random.IntN(20) == 0 }
	}
	report.Deliveries, report.FailedDeliveries, err = trigger.Drain(ctx)
	report.Took = time.Since(started)
	stop()
	helpers.Wait()
	report.Kills = int(kills.Load())
	report.Faults = c.DBSFaults.Met() + c.MNSFaults.Met()
	if err != nil {
		return report, err
	}
	check(c, expected, &report)
	return report, nil
}

// fill puts the events into the source queue, and returns what is to become of
// each distinct one.
func (s Scenario) fill(c *Cloud, random *rand.Rand) ([]expectation, error) {
	var expected []expectation
	for n := range s.Events {
		kind := 9
		if s.Mixed {
			kind = random.IntN(10)
		}
		name := fmt.Sprintf("mysql-bin.%06d", n+1)
		switch kind {
		case 0: // announced twice, by an EventBridge rule that targets the queue
			id := fmt.Sprintf("rule-event-%06d", n+1)
			body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"backup-watcher","type":"completed","data":%s}`, id, listItem(name))
			for range 2 {
				if _, err := c.MNS.Put(SourceQueue, body); err != nil {
					return nil, err
				}
			}
			expected = append(expected, expectation{id: id, body: body})
			continue
		case 1: // no backup event at all, with all that could be mangled on the way
			body := fmt.Sprintf("<rubbish n=\"%d\">\r\n\t& 备份 \\u0041 ]]>", n)
			m, err := c.MNS.Put(SourceQueue, body)
			if err != nil {
				return nil, err
			}
			expected = append(expected, expectation{id: m.ID, body: body, failed: true})
			continue
		case 2: // refused for good by DBS
			name = dbs.NotFoundName + name
		}
		body := listItem(name)
		m, err := c.MNS.Put(SourceQueue, body)
		if err != nil {
			return nil, err
		}
		expected = append(expected, expectation{id: m.ID, body: body, failed: kind == 2})
	}
	return expected, nil
}

func listItem(name string) string {
	return fmt.Sprintf(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":%q,"BackupStatus":"COMPLETED","StorageMethod":"Standard"}`, name)
}

// Result is what the checks read of a message in the result queue.
type Result struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		EventID       string `json:"EventId"`
		ClientToken   string `json:"ClientToken"`
		BackupSetName string `json:"BackupSetName"`
		TaskID        string `json:"BackupSetDownloadTaskId"`
		ErrCode       string `json:"ErrCode"`
		ErrMessage    string `json:"ErrMessage"`
	} `json:"data"`
}

// Results reads the result queue, in the order of arrival.
func (c *Cloud) Results() ([]Result, error) {
	var results []Result
	for _, m := range c.MNS.Messages(ResultQueue) {
		var r Result
		if err := json.Unmarshal([]byte(m.Body), &r); err != nil {
			return nil, fmt.Errorf("a message in the result queue is no result: %w", err)
		}
		results = append(results, r)
	}
	return results, nil
}

// check holds the stand-ins' state against the promise.
func check(c *Cloud, expected []expectation, report *Report) {
	violate := func(format string, args ...any) {
		report.Violations = append(report.Violations, fmt.Sprintf(format, args...))
	}
	results, err := c.Results()
	if err != nil {
		violate("%v", err)
	}
	byID := make(map[string]Result)
	for _, r := range results {
		if earlier, ok := byID[r.ID]; ok {
			report.DuplicateResults++
			if earlier != r {
				violate("event %s has two different results", r.ID)
			}
		}
		byID[r.ID] = r
	}
	dead := make(map[string]bool)
	for _, m := range c.MNS.Messages(DeadLetterQueue) {
		dead[m.Body] = true
		report.DeadLetters++
	}
	taskOf := make(map[string]string)
	for _, task := range c.DBS.Tasks() {
		if _, ok := taskOf[task.ClientToken]; ok {
			violate("two tasks for ClientToken %s", task.ClientToken)
		}
		taskOf[task.ClientToken] = task.ID
	}
	for _, e := range expected {
		r, ok := byID[e.id]
		switch {
		case !ok:
			violate("event %s is lost: it has no result", e.id)
		case e.failed && (!strings.HasSuffix(r.Type, ":TaskFailed") || r.Data.ErrCode == ""):
			violate("event %s should have failed, its result is %s", e.id, r.Type)
		case e.failed && !dead[e.body]:
			violate("event %s failed and its body is not in the dead-letter queue", e.id)
		case e.failed && taskOf[e.id] != "":
			violate("event %s failed and has a task", e.id)
		case !e.failed && (taskOf[e.id] == "" || r.Data.TaskID != taskOf[e.id]):
			violate("event %s has the task %q and its result says %q", e.id, taskOf[e.id], r.Data.TaskID)
		}
		delete(taskOf, e.id)
		delete(byID, e.id)
		if e.failed {
			delete(dead, e.body)
		}
	}
	for token := range taskOf {
		violate("a task for ClientToken %s, which no event has", token)
	}
	for id := range byID {
		violate("a result for %s, which is no event", id)
	}
	for body := range dead {
		violate("a dead letter that is none: %s", body)
	}
	report.Tasks, report.Results = len(c.DBS.Tasks()), len(results)
	report.DBSCalls, _ = c.DBS.Calls("")
}

// String is the report in one paragraph.
func (r Report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "seed %d: %d events in %d messages, %d tasks, %d DBS calls (%.2f an event), %d results (%d of them repeats), %d dead letters; "+
		"%d deliveries, %d of them failed, %d kills, %d faults, %.1f s", r.Seed, r.Events, r.Messages, r.Tasks, r.DBSCalls,
		float64(r.DBSCalls)/float64(max(r.Events, 1)), r.Results, r.DuplicateResults, r.DeadLetters, r.Deliveries, r.FailedDeliveries, r.Kills, r.Faults, r.Took.Seconds())
	for i, violation := range r.Violations {
		if i == 20 {
			fmt.Fprintf(&s, "\n  ... and %d more", len(r.Violations)-i)
			break
		}
		s.WriteString("\n  VIOLATION: " + violation)
	}
	return s.String()
}
