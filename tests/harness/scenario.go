package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
	"increment-backup-download/tests/standin/fcruntime"
	"increment-backup-download/tests/standin/trigger"
)

// Scenario is a run of generated events from the source queue through the
// function. One seed gives the same events, the same sequence of faults, and kills at
// the same requests; which event each one meets is up to the machine's scheduling.
type Scenario struct {
	Events    int // messages in the source queue; with Discovery, backup sets
	Seed      uint64
	FaultRate float64 // share of the calls to DBS and MNS that go wrong
	Mixed     bool    // a tenth each of repeated, malformed and refused events
	Kills     bool    // SIGKILL at random requests, at least once
	BatchSize int     // 0 means 100
	// Discovery puts no events into the source queue: DBS lists backup sets that
	// appear, fill and expire, and a timer discovers them. The instance needs the
	// settings of [Discovery]. Mixed is then what the sets are, too.
	Discovery bool
	// Progress, if set, is called every 100 ms.
	Progress func(Progress)
}

// Progress is how far a scenario has come.
type Progress struct {
	Done  int    // distinct events that have a result
	Of    int    // distinct events
	State string // what it does now, or waits for and why
}

// Report is what a scenario came to. Events is the sum of Created, Failed, Repeats
// and Left if nothing was violated.
type Report struct {
	Seed             uint64        `json:"seed"`
	Events           int           `json:"events"`  // as the scenario says
	Created          int           `json:"created"` // distinct events that have a task and its result
	Failed           int           `json:"failed"`  // distinct events that failed as they should
	Repeats          int           `json:"repeats"` // messages about an event announced before
	Left             int           `json:"left"`    // backup sets that are not to be downloaded, or were before
	Tasks            int           `json:"tasks"`   // created by calls
	DBSCalls         int           `json:"dbsCalls"`
	ListCalls        int           `json:"listCalls"` // of the DBS calls
	Results          int           `json:"results"`
	DuplicateResults int           `json:"duplicateResults"`
	DeadLetters      int           `json:"deadLetters"`
	TimerRuns        int           `json:"timerRuns"`
	FailedTimerRuns  int           `json:"failedTimerRuns"`
	Announced        int           `json:"announced"` // as the answers of the timer's runs say
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
	id         string // of the event and of its result
	body       string // as dead-lettered
	failed     bool
	discovered bool // a failure is not dead-lettered: DBS still has the set
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
		{Kind: standin.Refuse, Status: http.StatusBadRequest, Code: "UnknownToEveryone"},
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

// Run lets the scenario's events through the instance until nothing is left to do,
// and checks what became of each.
func (s Scenario) Run(ctx context.Context, c *Cloud, instance *Instance) (Report, error) {
	random := rand.New(rand.NewPCG(s.Seed, 1)) //nolint:gosec // G404: replayable on purpose
	run := &scenarioRun{Scenario: s, cloud: c, report: Report{Seed: s.Seed, Events: s.Events}}
	if run.BatchSize == 0 {
		run.BatchSize = 100
	}
	process := run.drain
	if s.Discovery {
		run.list(random)
		process = run.discover
	} else if err := run.fill(random); err != nil {
		return run.report, err
	}
	if s.Mixed {
		run.duplicate = func() bool { return random.IntN(20) == 0 }
	}
	kills := &killer{
		instance: instance,
		random:   rand.New(rand.NewPCG(s.Seed, 4)), //nolint:gosec // G404: replayable on purpose
		// A batch must fit between two kills now and then, and it makes the more
		// requests the more of them fail.
		mean: 200 / math.Pow(1-s.FaultRate, 5),
	}
	// No run makes fewer requests than half its events, so the first kill always comes.
	kills.left = kills.random.IntN(max(s.Events/2, 1))
	run.misbehave(kills)
	defer run.behave()

	background, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	if s.Progress != nil {
		helpers.Go(func() { run.reportProgress(background) })
	}
	started := time.Now()
	err := process(ctx)
	stop()
	helpers.Wait()
	run.report.Took = time.Since(started)
	run.report.Kills = kills.count()
	run.report.Faults = c.DBSFaults.Met() + c.MNSFaults.Met()
	if err != nil {
		return run.report, err
	}
	run.check()
	return run.report, nil
}

// scenarioRun is one run of a scenario.
type scenarioRun struct {
	Scenario
	cloud     *Cloud
	expected  []expectation
	duplicate func() bool
	later     []func() // what changes in DBS during the run
	report    Report

	mu    sync.Mutex
	state string // guarded by mu
}

// says changes what the run is at.
func (r *scenarioRun) says(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = fmt.Sprintf(format, args...)
}

// misbehave begins the scenario's faults and kills; without them a test's own plans
// stay as they are.
func (r *scenarioRun) misbehave(kills *killer) {
	if r.FaultRate == 0 && !r.Kills {
		return
	}
	faults := weighted(false)
	if r.Discovery {
		faults = append(faults, slices.Repeat([]standin.Fault{{Kind: standin.Short}}, 12)...)
	}
	ofDBS := standin.Randomly(r.FaultRate, r.Seed+2, faults)
	ofMNS := standin.Randomly(r.FaultRate, r.Seed+3, weighted(true))
	if r.Kills {
		ofDBS, ofMNS = kills.before(ofDBS), kills.before(ofMNS)
	}
	r.cloud.DBSFaults.SetPlan(ofDBS)
	r.cloud.MNSFaults.SetPlan(ofMNS)
}

// behave ends the scenario's faults and kills.
func (r *scenarioRun) behave() {
	if r.FaultRate == 0 && !r.Kills {
		return
	}
	r.cloud.DBSFaults.SetPlan(nil)
	r.cloud.MNSFaults.SetPlan(nil)
}

// killer kills a process at random requests.
type killer struct {
	instance *Instance
	mean     float64 // requests between two kills

	mu     sync.Mutex
	random *rand.Rand // guarded by mu
	left   int        // requests that are let through before the next kill; guarded by mu
	made   int        // guarded by mu
}

// before returns a plan that counts a request, kills the process if its turn has come,
// and then does what plan says.
func (k *killer) before(plan standin.Plan) standin.Plan {
	return func(r *http.Request) *standin.Fault {
		k.mu.Lock()
		k.left--
		if k.left < 0 {
			k.instance.Kill()
			k.made++
			k.left = 50 + int(k.random.ExpFloat64()*k.mean)
		}
		k.mu.Unlock()
		return plan(r)
	}
}

func (k *killer) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.made
}

// reportProgress calls Progress until ctx ends.
func (r *scenarioRun) reportProgress(ctx context.Context) {
	done, read := make(map[string]bool), 0
	for {
		messages := r.cloud.MNS.Messages(ResultQueue)
		for _, m := range messages[read:] {
			var result Result
			if json.Unmarshal([]byte(m.Body), &result) == nil {
				done[result.ID] = true
			}
		}
		read = len(messages)
		r.mu.Lock()
		state := r.state
		r.mu.Unlock()
		r.Progress(Progress{Done: len(done), Of: len(r.expected), State: state})
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// trigger returns the trigger that delivers the source queue.
func (r *scenarioRun) trigger() *trigger.Trigger {
	t := r.cloud.Trigger(r.BatchSize)
	t.Duplicate = r.duplicate
	deliver := t.Deliver
	t.Deliver = func(ctx context.Context, payload []byte) error {
		r.says("a batch is being delivered")
		return deliver(ctx, payload)
	}
	t.Delivered = func(d trigger.Delivery) {
		if d.Err != nil {
			r.says("delivery %d failed, again in %.2f s: %s", d.Attempt, d.Wait.Seconds(), kindOf(d.Err))
		}
	}
	return t
}

// kindOf names the type of a failed delivery.
func kindOf(err error) string {
	var failed *fcruntime.Error
	if errors.As(err, &failed) {
		return failed.Type
	}
	return err.Error()
}

// drain delivers until the source queue is empty.
func (r *scenarioRun) drain(ctx context.Context) (err error) {
	r.report.Deliveries, r.report.FailedDeliveries, err = r.trigger().Drain(ctx)
	return err
}

// fill puts the events into the source queue, and notes what is to become of each
// distinct one.
func (r *scenarioRun) fill(random *rand.Rand) error {
	put := func(body string) (string, error) {
		m, err := r.cloud.MNS.Put(SourceQueue, body)
		return m.ID, err
	}
	for n := 0; n < r.Events; n++ {
		kind := 9
		if r.Mixed {
			kind = random.IntN(10)
		}
		name := fmt.Sprintf("mysql-bin.%06d", n+1)
		switch {
		case kind == 0 && n+1 < r.Events: // announced twice, by an EventBridge rule that targets the queue
			id := fmt.Sprintf("rule-event-%06d", n+1)
			body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"backup-watcher","type":"completed","data":%s}`,
				id, ListItem(sampleJob, name))
			for range 2 {
				if _, err := put(body); err != nil {
					return err
				}
			}
			r.expected = append(r.expected, expectation{id: id, body: body})
			r.report.Repeats++
			n++
			continue
		case kind == 1: // no backup event at all, with all that could be mangled on the way
			body := fmt.Sprintf("<rubbish n=\"%d\">\r\n\t& 备份 \\u0041 ]]>", n)
			id, err := put(body)
			if err != nil {
				return err
			}
			r.expected = append(r.expected, expectation{id: id, body: body, failed: true})
			continue
		case kind == 2: // refused for good by DBS
			name = dbs.NotFoundName + name
		}
		body := ListItem(sampleJob, name)
		id, err := put(body)
		if err != nil {
			return err
		}
		r.expected = append(r.expected, expectation{id: id, body: body, failed: kind == 2})
	}
	return nil
}

// Result is what the checks read of a message in the result queue.
type Result struct {
	Source string `json:"source"`
	ID     string `json:"id"`
	Type   string `json:"type"`
	Data   struct {
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

// succeeded reports whether the result says that a task was created.
func (r Result) succeeded() bool { return strings.HasSuffix(r.Type, ":TaskCreated") }

// IsEnd reports whether the result says how a task ended.
func (r Result) IsEnd() bool {
	return strings.HasSuffix(r.Type, ":TaskFinished") || strings.HasSuffix(r.Type, ":TaskStopped") || strings.HasSuffix(r.Type, ":TaskUnfinished")
}

// Identity is what a consumer recognises repeats by.
func (r Result) Identity() [3]string { return [3]string{r.Source, r.ID, r.Type} }

// check holds the stand-ins' state against the promise.
func (r *scenarioRun) check() {
	c, report := r.cloud, &r.report
	violate := func(format string, args ...any) {
		report.Violations = append(report.Violations, fmt.Sprintf(format, args...))
	}
	results, err := c.Results()
	if err != nil {
		violate("%v", err)
	}
	discovered := make(map[string]bool)
	for _, e := range r.expected {
		discovered[e.id] = e.discovered
	}
	seen := make(map[[3]string]Result)
	byID := make(map[string]Result)
	for _, result := range results {
		earlier, repeated := seen[result.Identity()]
		seen[result.Identity()] = result
		other, known := byID[result.ID]
		switch {
		case repeated:
			report.DuplicateResults++
			if earlier != result && !result.IsEnd() {
				violate("event %s has two different results of one type", result.ID)
			}
		case result.IsEnd():
		case known && !discovered[result.ID]:
			violate("event %s has both succeeded and failed", result.ID)
		case !known || !other.succeeded(): // an announcement that failed is made again
			byID[result.ID] = result
		}
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
	for _, e := range r.expected {
		result, ok := byID[e.id]
		switch {
		case !ok:
			violate("event %s is lost: it has no result", e.id)
		case e.failed && (!strings.HasSuffix(result.Type, ":TaskFailed") || result.Data.ErrCode == ""):
			violate("event %s should have failed, its result is %s", e.id, result.Type)
		case e.failed && !e.discovered && !dead[e.body]:
			violate("event %s failed and its body is not in the dead-letter queue", e.id)
		case e.failed && taskOf[e.id] != "":
			violate("event %s failed and has a task", e.id)
		case !e.failed && (taskOf[e.id] == "" || result.Data.TaskID != taskOf[e.id]):
			violate("event %s has the task %q and its result says %q", e.id, taskOf[e.id], result.Data.TaskID)
		case e.failed:
			report.Failed++
		default:
			report.Created++
		}
		delete(taskOf, e.id)
		delete(byID, e.id)
		if e.failed && !e.discovered {
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
	if r.Discovery {
		r.checkLists(violate)
	}
	report.Tasks, report.Results = len(c.DBS.Tasks()), len(results)
	report.DBSCalls, _ = c.DBS.Calls("")
	report.ListCalls = c.DBS.CallsOf(dbs.ActionListSets) + c.DBS.CallsOf(dbs.ActionListTasks)
}

// String is the report in one paragraph.
func (r Report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "seed %d: %d events = %d created + %d failed + %d repeats + %d left; %d tasks, %d DBS calls, "+
		"%d results (%d of them repeats), %d dead letters; "+
		"%d timer runs, %d of them failed; %d deliveries, %d of them failed; "+
		"%d kills, %d faults, %.1f s", r.Seed, r.Events, r.Created, r.Failed, r.Repeats, r.Left, r.Tasks, r.DBSCalls,
		r.Results, r.DuplicateResults, r.DeadLetters, r.TimerRuns, r.FailedTimerRuns, r.Deliveries, r.FailedDeliveries,
		r.Kills, r.Faults, r.Took.Seconds())
	for i, violation := range r.Violations {
		if i == 20 {
			fmt.Fprintf(&s, "\n  ... and %d more", len(r.Violations)-i)
			break
		}
		s.WriteString("\n  VIOLATION: " + violation)
	}
	return s.String()
}
