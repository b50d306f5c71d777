package discovery_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

const (
	planA = "dbsqdss5tmh0001"
	planB = "dbsqdss5tmh0002"
	jobID = "1hv5g9wk0001"

	region    = "cn-hangzhou"
	listPlans = "DescribeBackupPlanList"
	listSets  = "DescribeIncrementBackupList"
	listTasks = "DescribeBackupSetDownloadTaskList"
)

// listCall is one call of a list.
type listCall struct {
	operation, plan string
	pageNum         int
	query           discovery.BackupSetQuery
}

// fakeDBSPlan is what DBS knows about one plan.
type fakeDBSPlan struct {
	sets  []discovery.BackupSet
	tasks []discovery.DownloadTask
}

// fakeLists is DBS with its lists: a task that is created is listed from then on.
type fakeLists struct {
	countsFromOne bool // pages; else from 0
	oldestFirst   bool // tasks, which plans have with the newest first
	// before, if set, runs before each list call, and may refuse it; cut may shorten
	// or change what the call answers.
	before func(ctx context.Context, call listCall) error
	cut    func(call listCall, page *fakePage)
	// creating, if set, runs before a task is created, and may refuse it; created
	// runs after it, and may lose the answer.
	creating, created func(request events.Request) error

	mu     sync.Mutex
	listed []discovery.BackupPlan
	plans  map[string]*fakeDBSPlan
	tokens map[string]discovery.DownloadTask // by ClientToken
	calls  []listCall
	flying int
	peak   int
}

// fakePage is a page of either list.
type fakePage struct {
	totals struct{ Pages, Elements int }
	plans  []discovery.BackupPlan
	sets   []discovery.BackupSet
	tasks  []discovery.DownloadTask
}

func (f *fakeLists) BackupSets(ctx context.Context, query discovery.BackupSetQuery) (discovery.Page[discovery.BackupSet], error) {
	call := listCall{operation: listSets, plan: query.BackupPlanID, pageNum: query.PageNum, query: query}
	page, err := f.list(ctx, call, func(plan *fakeDBSPlan) (page fakePage) {
		// It is not documented which time DBS selects by: the earliest is the strictest.
		var selected []discovery.BackupSet
		for _, set := range plan.sets {
			if set.StartTime.IsZero() || !set.StartTime.Before(query.Start) && !set.StartTime.After(query.End) {
				selected = append(selected, set)
			}
		}
		page.sets, page.totals.Pages, page.totals.Elements = pageOf(selected, query.PageNum, f.countsFromOne)
		return page
	})
	return discovery.Page[discovery.BackupSet]{Pages: page.totals.Pages, Elements: page.totals.Elements, Date: now(), Rows: page.sets}, err
}

func (f *fakeLists) DownloadTasks(ctx context.Context, plan string, pageNum int) (discovery.Page[discovery.DownloadTask], error) {
	call := listCall{operation: listTasks, plan: plan, pageNum: pageNum}
	page, err := f.list(ctx, call, func(plan *fakeDBSPlan) (page fakePage) {
		page.tasks, page.totals.Pages, page.totals.Elements = pageOf(plan.tasks, pageNum, f.countsFromOne)
		if f.oldestFirst {
			page.tasks = lastPageOf(plan.tasks, pageNum, f.countsFromOne)
		}
		return page
	})
	return discovery.Page[discovery.DownloadTask]{Pages: page.totals.Pages, Elements: page.totals.Elements, Date: now(), Rows: page.tasks}, err
}

// now is the Date of an answer.
func now() time.Time { return time.Now().Truncate(time.Second) }

func (f *fakeLists) BackupPlans(ctx context.Context, region string, pageNum int) (discovery.Page[discovery.BackupPlan], error) {
	call := listCall{operation: listPlans, plan: region, pageNum: pageNum}
	page, err := f.list(ctx, call, func(*fakeDBSPlan) (page fakePage) {
		page.plans, page.totals.Pages, page.totals.Elements = pageOf(f.listed, pageNum, f.countsFromOne)
		return page
	})
	return discovery.Page[discovery.BackupPlan]{Pages: page.totals.Pages, Elements: page.totals.Elements, Date: now(), Rows: page.plans}, err
}

func (f *fakeLists) list(ctx context.Context, call listCall, read func(*fakeDBSPlan) fakePage) (fakePage, error) {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	f.flying++
	f.peak = max(f.peak, f.flying)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.flying--
		f.mu.Unlock()
	}()
	if f.before != nil {
		if err := f.before(ctx, call); err != nil {
			return fakePage{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	plan := f.plans[call.plan]
	if plan == nil && call.operation != listPlans {
		return fakePage{}, permanent("InvalidParameterValid")
	}
	page := read(plan)
	if f.cut != nil {
		f.cut(call, &page)
	}
	return page, nil
}

func pageOf[T any](all []T, pageNum int, fromOne bool) (rows []T, pages, elements int) {
	pages = (len(all) + discovery.ListPageSize - 1) / discovery.ListPageSize
	if fromOne {
		pageNum = max(pageNum, 1) - 1
	}
	from := min(pageNum*discovery.ListPageSize, len(all))
	return slices.Clone(all[from:min(from+discovery.ListPageSize, len(all))]), pages, len(all)
}

// lastPageOf returns a page of the rows in the opposite order.
func lastPageOf[T any](all []T, pageNum int, fromOne bool) []T {
	if fromOne {
		pageNum = max(pageNum, 1) - 1
	}
	to := max(len(all)-pageNum*discovery.ListPageSize, 0)
	rows := slices.Clone(all[max(to-discovery.ListPageSize, 0):to])
	slices.Reverse(rows)
	return rows
}

// CreateTask behaves as DBS does: one token, one task, for ever.
func (f *fakeLists) CreateTask(_ context.Context, request events.Request) (handler.Task, error) {
	if f.creating != nil {
		if err := f.creating(request); err != nil {
			return handler.Task{}, err
		}
	}
	f.mu.Lock()
	task, ok := f.tokens[request.ClientToken]
	if !ok {
		task = discovery.DownloadTask{ID: fmt.Sprintf("task-%d", len(f.tokens)+1), BackupSetID: request.BackupSetID,
			BackupSetCode: request.BackupSetName, JobType: "cbs_backup_sub_cont", Status: "running", CreateTime: time.Now()}
		f.tokens[request.ClientToken] = task
		for _, plan := range f.plans {
			if slices.ContainsFunc(plan.sets, func(set discovery.BackupSet) bool {
				return set.BackupSetJobID == request.BackupSetID && set.BackupSetID == request.BackupSetName
			}) {
				plan.tasks = slices.Insert(plan.tasks, 0, task) // the newest first
			}
		}
	}
	f.mu.Unlock()
	if f.created != nil {
		if err := f.created(request); err != nil {
			return handler.Task{}, err
		}
	}
	return handler.Task{ID: task.ID, RequestID: "R"}, nil
}

// TaskState says that every task runs.
func (f *fakeLists) TaskState(context.Context, string) (follow.TaskState, error) {
	return follow.TaskState{Status: "running"}, nil
}

// callsOf returns the calls of an operation, of all plans if plan is empty.
func (f *fakeLists) callsOf(operation, plan string) (calls []listCall) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, call := range f.calls {
		if call.operation == operation && (plan == "" || call.plan == plan) {
			calls = append(calls, call)
		}
	}
	return calls
}

// fakeSource is a queue that can be looked at. What was sent is taken by deliver.
type fakeSource struct {
	held int // messages besides those that were sent
	// before, if set, runs before each request, and may refuse it; refuse may refuse
	// one message; lose may lose the answer.
	before func(ctx context.Context) error
	refuse func(body string) error
	lose   func() error
	depth  func(ctx context.Context) error
	try    error // the answer to TrySend

	mu       sync.Mutex
	messages []string
	sent     []string // delivered or not
	batches  [][]string
	asked    int
	tries    int
}

func (f *fakeSource) Send(ctx context.Context, messages []outbox.Message) []error {
	var bodies []string
	for _, m := range messages {
		if m.Delay == 0 { // else it is a follow-up
			bodies = append(bodies, m.Body)
		}
	}
	if len(bodies) == 0 {
		return make([]error, len(messages))
	}
	answers := make([]error, len(bodies))
	fail := func(err error) []error {
		for i := range answers {
			answers[i] = cmp.Or(answers[i], err)
		}
		return answers
	}
	if f.before != nil {
		if err := f.before(ctx); err != nil {
			return fail(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, bodies)
	for i, body := range bodies {
		if f.refuse != nil {
			if answers[i] = f.refuse(body); answers[i] != nil {
				continue
			}
		}
		f.messages, f.sent = append(f.messages, body), append(f.sent, body)
	}
	if f.lose != nil {
		return fail(f.lose())
	}
	return answers
}

func (f *fakeSource) Size(body string) int { return len(body) }

func (f *fakeSource) Depth(ctx context.Context) (int, error) {
	f.mu.Lock()
	f.asked++
	n := f.held + len(f.messages)
	f.mu.Unlock()
	if f.depth != nil {
		if err := f.depth(ctx); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (f *fakeSource) TrySend(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	return f.try
}

// announced returns the BackupSetIds that were announced, in their order.
func (f *fakeSource) announced(t testing.TB) (ids []string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, body := range f.sent {
		var event struct{ Subject string }
		require.NoError(t, json.Unmarshal([]byte(body), &event))
		ids = append(ids, event.Subject)
	}
	return ids
}

// deployment is a handler with DBS's lists and a source queue around it.
type deployment struct {
	*discovery.Discoverer
	handler                      *handler.Handler
	dbs                          *fakeLists
	source, results, deadLetters *fakeSource
	log                          *bytes.Buffer
}

func deploy(change func(*handler.Config)) *deployment {
	d := &deployment{
		dbs:    &fakeLists{plans: map[string]*fakeDBSPlan{planA: {}}, tokens: map[string]discovery.DownloadTask{}},
		source: &fakeSource{}, results: &fakeSource{}, deadLetters: &fakeSource{}, log: &bytes.Buffer{},
	}
	d.restart(change)
	return d
}

// restart replaces the function, as a new instance does.
func (d *deployment) restart(change func(*handler.Config)) {
	config := handler.Config{
		Source:        events.Source{Region: region, AccountID: "1234567890123456", FunctionName: "increment-backup-download"},
		Concurrency:   4,
		BackupPlanIDs: []string{planA},
	}
	if change != nil {
		change(&config)
	}
	log := slog.New(slog.NewJSONHandler(d.log, nil))
	d.handler = handler.New(config, handler.Ports{Tasks: d.dbs, Lists: d.dbs, States: d.dbs, Results: d.results, DeadLetters: d.deadLetters, Source: d.source}, log)
	d.Discoverer = discovery.New(
		discovery.Config{Source: config.Source, BackupPlanIDs: config.BackupPlanIDs, LookbackHours: config.LookbackHours},
		d.dbs, d.source, attempt.NewLimits(config.Concurrency, config.MaxRequestsPerSecond), log)
}

// plan returns what DBS knows about a plan, which exists from then on.
func (d *deployment) plan(id string) *fakeDBSPlan {
	if d.dbs.plans[id] == nil {
		d.dbs.plans[id] = &fakeDBSPlan{}
	}
	return d.dbs.plans[id]
}

// run makes a discovery run of a minute, as a timer does.
func (d *deployment) run(t testing.TB, command events.Discover) (discovery.Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := d.Run(ctx, "request-1", command, true)
	require.NoError(t, ctx.Err(), "the answer leaves before the deadline")
	return answer, err
}

// deliver hands all that is in the source queue to the handler, as the trigger
// does, and puts it back if the handler fails.
func (d *deployment) deliver(t testing.TB) error {
	t.Helper()
	d.source.mu.Lock()
	bodies := d.source.messages
	d.source.messages = nil
	d.source.mu.Unlock()
	if len(bodies) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := d.handler.Handle(ctx, "request-2", batch(bodies...))
	if err != nil {
		d.source.mu.Lock()
		d.source.messages = append(d.source.messages, bodies...)
		d.source.mu.Unlock()
	}
	return err
}

// lines returns the log's lines of a level, WARN or ERROR.
func (d *deployment) lines(level string) (lines []string) {
	for line := range strings.Lines(d.log.String()) {
		if strings.Contains(line, `"level":"`+level+`"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// finished returns a set that was completed the given time ago.
func finished(n int, ago time.Duration) discovery.BackupSet {
	return backupSet(func(s *discovery.BackupSet) {
		s.BackupSetID = fmt.Sprintf("mysql-bin.%06d", n)
		s.EndTime = time.Now().Add(-ago)
		s.StartTime = s.EndTime.Add(-time.Hour)
	})
}

// backupSet returns a set that was completed an hour ago, with the given change.
func backupSet(change func(*discovery.BackupSet)) discovery.BackupSet {
	now := time.Now()
	set := discovery.BackupSet{BackupSetJobID: jobID, BackupSetID: "mysql-bin.000001", BackupStatus: "COMPLETED",
		StartTime: now.Add(-2 * time.Hour), EndTime: now.Add(-time.Hour), ExpiredTime: now.Add(1000 * time.Hour),
		Size: 18535, StorageMethod: "Standard"}
	if change != nil {
		change(&set)
	}
	return set
}

// taskOf returns a download task of a set, in the given status, made half an hour
// ago.
func taskOf(set discovery.BackupSet, id, status string) discovery.DownloadTask {
	return discovery.DownloadTask{ID: id, BackupSetID: set.BackupSetJobID, BackupSetCode: set.BackupSetID,
		JobType: "cbs_backup_sub_cont", Status: status, CreateTime: time.Now().Add(-30 * time.Minute)}
}

func transient(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.Transient, Code: code, HTTPStatusCode: 503}
}

func permanent(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.Permanent, Code: code, Message: "it is wrong", HTTPStatusCode: 400, RequestID: "R-1"}
}

func operatorFault(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.OperatorFault, Code: code, Message: "it is not allowed", HTTPStatusCode: 403,
		Fix: "grant what is missing"}
}

func mnsError(kind cloud.Kind, code string, status int) error {
	return &cloud.Error{Kind: kind, Service: "MNS", Code: code, HTTPStatusCode: status, Fix: "grant what is missing"}
}

var discard = slog.New(slog.NewJSONHandler(io.Discard, nil))

// batch returns an event stream payload with the given message bodies.
func batch(bodies ...string) []byte {
	var all []map[string]any
	for i, body := range bodies {
		id := fmt.Sprintf("event-%d", i)
		all = append(all, map[string]any{"specversion": "1.0", "id": id, "source": "acs:mns", "type": "mns:Queue:SendMessage",
			"data": map[string]any{"messageId": id, "messageBody": body}})
	}
	payload, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return payload
}
