package handler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
)

// fakeDBS behaves as DBS does: one token, one task, for ever.
type fakeDBS struct {
	// before, if set, runs before the effect of each call, and may refuse it; after
	// runs after the effect, and may lose the answer.
	before func(ctx context.Context, request events.Request) error
	after  func(request events.Request) error

	mu       sync.Mutex
	tasks    map[string]string // by token
	requests map[string]events.Request
	calls    map[string]int
	total    int
	flying   int
	peak     int
}

func newFakeDBS() *fakeDBS {
	return &fakeDBS{tasks: map[string]string{}, requests: map[string]events.Request{}, calls: map[string]int{}}
}

func (f *fakeDBS) CreateTask(ctx context.Context, request events.Request) (handler.Task, error) {
	f.mu.Lock()
	f.calls[request.ClientToken]++
	f.total++
	f.flying++
	f.peak = max(f.peak, f.flying)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.flying--
		f.mu.Unlock()
	}()
	if f.before != nil {
		if err := f.before(ctx, request); err != nil {
			return handler.Task{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if earlier, ok := f.requests[request.ClientToken]; ok && earlier != request {
		return handler.Task{}, permanent("IdempotentParameterMismatch")
	}
	if f.tasks[request.ClientToken] == "" {
		f.tasks[request.ClientToken] = fmt.Sprintf("task-%d", len(f.tasks)+1)
		f.requests[request.ClientToken] = request
	}
	if f.after != nil {
		if err := f.after(request); err != nil {
			return handler.Task{}, err
		}
	}
	return handler.Task{ID: f.tasks[request.ClientToken], RequestID: "D6E068C3"}, nil
}

// fakeQueue keeps what is sent to it.
type fakeQueue struct {
	inspected
	// before, if set, runs before the effect of each request, and may refuse it.
	// refuse may refuse one message.
	before func(ctx context.Context) error
	refuse func(body string) error

	mu       sync.Mutex
	messages []string
	batches  [][]string
}

// inspected makes a fake queue one that can be looked at.
type inspected struct{}

func (inspected) Depth(context.Context) (int, error) { return 0, nil }
func (inspected) TrySend(context.Context) error      { return permanent("InvalidArgument") }

func (inspected) Size(body string) int { return len(body) }

func bodiesOf(messages []outbox.Message) []string {
	bodies := make([]string, len(messages))
	for i, m := range messages {
		bodies[i] = m.Body
	}
	return bodies
}

func (f *fakeQueue) Send(ctx context.Context, sent []outbox.Message) []error {
	bodies := bodiesOf(sent)
	answers := make([]error, len(bodies))
	fail := func(err error) []error {
		for i := range answers {
			answers[i] = err
		}
		return answers
	}
	if f.before != nil {
		if err := f.before(ctx); err != nil {
			return fail(err)
		}
	}
	if ctx.Err() != nil {
		return fail(context.Cause(ctx))
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
		f.messages = append(f.messages, body)
	}
	return answers
}

// results reads the messages of a result queue, by the id of the result.
func (f *fakeQueue) results(t testing.TB) map[string]events.Result {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	byID := make(map[string]events.Result)
	for _, m := range f.messages {
		var r events.Result
		require.NoError(t, json.Unmarshal([]byte(m), &r))
		byID[r.ID] = r
	}
	return byID
}

func transient(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.Transient, Code: code, HTTPStatusCode: 503}
}

func permanent(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.Permanent, Code: code, Message: "it is wrong", HTTPStatusCode: 400, RequestID: "R-1"}
}

func operatorFault(code string) error {
	return &cloud.Error{Service: "DBS", Kind: cloud.OperatorFault, Code: code, Message: "fix it", HTTPStatusCode: 403}
}

// deployment is a handler with fakes around it.
type deployment struct {
	*handler.Handler
	dbs                  *fakeDBS
	results, deadLetters *fakeQueue
	log                  *bytes.Buffer
}

func deploy(change func(*handler.Config)) *deployment {
	d := &deployment{dbs: newFakeDBS(), results: &fakeQueue{}, deadLetters: &fakeQueue{}, log: &bytes.Buffer{}}
	d.restart(change)
	return d
}

// restart replaces the handler, as a new instance does: what it remembered is gone.
func (d *deployment) restart(change func(*handler.Config)) { d.withPorts(change, nil) }

// withPorts does so with other ports.
func (d *deployment) withPorts(change func(*handler.Config), changePorts func(*handler.Ports)) {
	config := handler.Config{
		Source:      events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "increment-backup-download"},
		Concurrency: 4,
		Targets:     handler.Targets{DBSEndpoint: "https://dbs", MNSEndpoint: "https://mns", ResultQueue: "results", DeadLetterQueue: "dead"},
	}
	if change != nil {
		change(&config)
	}
	ports := handler.Ports{Tasks: d.dbs, Results: d.results, DeadLetters: d.deadLetters}
	if changePorts != nil {
		changePorts(&ports)
	}
	log := slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.Handler = handler.New(config, ports, log)
}

var discard = slog.New(slog.NewJSONHandler(io.Discard, nil))

// lines returns the log lines with the given text.
func (d *deployment) lines(t testing.TB, text string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(d.log.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields["msg"] == text {
			found = append(found, fields)
		}
	}
	return found
}

// handle handles a payload with the given time until the deadline.
func (d *deployment) handle(t testing.TB, timeout time.Duration, payload []byte) (handler.Summary, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	summary, err := d.Handle(ctx, "", payload)
	require.NoError(t, ctx.Err(), "answered in time")
	return summary, err
}

// batch returns an event stream payload with the given message bodies; the IDs of
// the events are their numbers.
func batch(bodies ...string) []byte {
	elements := make([]element, len(bodies))
	for i, body := range bodies {
		elements[i] = element{ID: fmt.Sprintf("event-%d", i), MessageID: fmt.Sprintf("event-%d", i), Body: body}
	}
	return stream(elements...)
}

// element is one event of an event stream.
type element struct{ ID, MessageID, Time, Body string }

func stream(elements ...element) []byte {
	var all []map[string]any
	for _, e := range elements {
		data := map[string]any{"messageBody": e.Body}
		if e.MessageID != "" {
			data["messageId"] = e.MessageID
		}
		one := map[string]any{"specversion": "1.0", "id": e.ID, "source": "acs:mns", "type": "mns:Queue:SendMessage", "data": data}
		if e.Time != "" {
			one["time"] = e.Time
		}
		all = append(all, one)
	}
	payload, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return payload
}

func item(n int) string {
	return fmt.Sprintf(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.%06d","BackupStatus":"COMPLETED"}`, n)
}

func items(n int) []string {
	bodies := make([]string, n)
	for i := range n {
		bodies[i] = item(i)
	}
	return bodies
}
