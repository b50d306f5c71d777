package handler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"increment-backup-download/events"
)

// Outcomes of an event, as the summary and the log write them.
const (
	outcomeCreated     = "created"
	outcomeFailed      = "failed"
	outcomeIgnored     = "ignored"
	outcomeAlreadyDone = "alreadyDone"
)

// invocation carries one payload through: the calling goroutine decodes it,
// workers call DBS, and two outboxes publish what is finished meanwhile.
type invocation struct {
	*Handler
	log *slog.Logger

	calls       context.Context // ends with the time for DBS calls
	waiting     context.Context // like calls, and ends with an operator fault: no call starts after it
	stop        context.CancelCauseFunc
	caller      *caller
	results     *outbox
	deadLetters *outbox

	mu       sync.Mutex
	summary  Summary
	open     openEvents
	fault    error              // the first operator fault
	byToken  map[string]*call   // the calls of this batch by ClientToken
	seen     map[recordKey]bool // the events of this batch
	ids      map[string]bool    // the ids of the results of this batch
	attempts int
}

// delivery is one message of the payload.
type delivery struct {
	index int
	event events.Event
	id    string // of its result
}

// call is one request to DBS, and the messages that wait for its answer: more
// than one where different events carry one explicit ClientToken.
type call struct {
	request  events.Request
	waiting  []delivery
	done     bool
	task     Task
	err      error
	attempts int
	took     time.Duration
}

func newInvocation(calls, publishing context.Context, h *Handler, log *slog.Logger) *invocation {
	in := &invocation{
		Handler: h,
		log:     log,
		calls:   calls,
		byToken: make(map[string]*call),
		seen:    make(map[recordKey]bool),
		ids:     make(map[string]bool),
	}
	in.waiting, in.stop = context.WithCancelCause(calls)
	in.caller = &caller{starting: in.waiting, running: calls, pacer: &pacer{limiter: h.limiter}, log: &callLog{log: log}}
	in.results = newOutbox(publishing, h.results)
	in.deadLetters = newOutbox(publishing, h.deadLetters)
	return in
}

func (in *invocation) cancel() { in.stop(nil) }

// run handles the payload and returns when all is done with.
func (in *invocation) run(payload []byte) error {
	queue := make(chan *call)
	var workers sync.WaitGroup
	started := 0
	submit := func(c *call) {
		// Workers are started as there is work for them: one event, one worker.
		if started < in.config.Concurrency {
			select {
			case queue <- c:
				return
			default:
				started++
				workers.Go(func() {
					for c := range queue {
						in.create(c)
					}
				})
			}
		}
		select {
		case queue <- c:
		case <-in.waiting.Done():
			in.finish(c, Task{}, context.Cause(in.waiting), 0, 0)
		}
	}

	index := 0
	var refused error
	for event, err := range in.decoder.Decode(payload) {
		if eventErr := in.take(index, event, err, submit); eventErr != nil && refused == nil {
			refused = eventErr
		}
		index++
	}
	close(queue)
	workers.Wait()
	// A dead letter makes a result once it is published, so it goes first.
	in.deadLetters.flush()
	in.results.flush()

	slices.SortFunc(in.summary.Results, func(a, b Entry) int { return cmp.Compare(a.index, b.index) })
	in.open.events = in.summary.Events
	switch {
	case in.fault != nil:
		return &OperatorFaultError{Fault: in.fault, open: in.open}
	case in.open.open > 0:
		return &RedeliveryError{open: in.open}
	}
	return refused
}

// take starts what a decoded message needs. It returns an error only for a
// payload typed by hand that cannot be understood.
func (in *invocation) take(index int, event events.Event, malformed *events.Error, submit func(*call)) error {
	in.mu.Lock()
	in.summary.Events++
	in.mu.Unlock()

	switch {
	case malformed != nil && event.ByHand:
		return &EventError{Reason: malformed}
	case malformed == nil && event.Ignored():
		in.ignore(index, event)
		return nil
	case malformed == nil && event.DryRun:
		in.dryRun(event)
		return nil
	}

	d := delivery{index: index, event: event, id: event.ResultID()}
	keys := []recordKey{failedKey(event)}
	if malformed == nil {
		keys = append(keys, createdKey(event))
	}
	for _, key := range keys {
		if in.seen[key] {
			in.alreadyDone(d, events.NewResultData(event), "repeated in the batch")
			return nil
		}
	}
	for _, key := range keys {
		in.seen[key] = true
	}
	if in.ids[d.id] {
		d.id = event.OwnResultID()
	}
	in.ids[d.id] = true
	for _, key := range keys {
		if data, ok := in.record.get(key); ok {
			in.remember(event.Request, data)
			in.alreadyDone(d, data, "done by an earlier invocation")
			return nil
		}
	}
	if malformed != nil {
		in.reject(d, *malformed)
		return nil
	}

	c, joined := in.join(d)
	switch {
	case c == nil:
		in.reject(d, events.Error{Code: events.CodeConflict,
			Message: "another event of the batch has the same ClientToken and a different request; give each backup set an event ID, or a ClientToken, of its own"})
	case !joined:
		submit(c)
	}
	return nil
}

// remember takes a task that an earlier invocation created for a call of this
// batch, so that its token stays taken.
func (in *invocation) remember(request events.Request, data events.ResultData) {
	if data.BackupSetDownloadTaskID == "" {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.byToken[request.ClientToken] == nil {
		in.byToken[request.ClientToken] = &call{request: request, done: true, task: Task{ID: data.BackupSetDownloadTaskID, RequestID: data.RequestID}}
	}
}

// join returns the call for a delivery's token and whether it was there already;
// no call where the one there is for another request.
func (in *invocation) join(d delivery) (c *call, joined bool) {
	in.mu.Lock()
	c, joined = in.byToken[d.event.Request.ClientToken]
	if !joined {
		c = &call{request: d.event.Request, waiting: []delivery{d}}
		in.byToken[d.event.Request.ClientToken] = c
		in.mu.Unlock()
		return c, false
	}
	if c.request != d.event.Request {
		in.mu.Unlock()
		return nil, false
	}
	if !c.done {
		c.waiting = append(c.waiting, d)
		in.mu.Unlock()
		return c, true
	}
	in.mu.Unlock()
	in.settle(c, d)
	return c, true
}

// create calls DBS until there is an answer or no time.
func (in *invocation) create(c *call) {
	started := time.Now()
	var task Task
	var state = attempts{timeout: callTimeout}
	var err error
	for {
		var wait time.Duration
		var again bool
		wait, again, err = in.caller.attempt(&state, func(ctx context.Context) error {
			created, err := in.tasks.CreateTask(ctx, c.request)
			task = created
			return err
		}, slog.String("clientToken", c.request.ClientToken))
		if err == nil || !again || sleep(in.waiting, wait) != nil {
			break
		}
	}
	attempts := state.made
	var service *ServiceError
	if errors.As(err, &service) && service.Throttled {
		// DBS asks for a longer wait than there is time for.
		in.stop(err)
	}
	in.finish(c, task, err, attempts, time.Since(started))
}

// finish notes the outcome of a call for the messages that wait for it.
func (in *invocation) finish(c *call, task Task, err error, attempts int, took time.Duration) {
	if kindOf(err) == OperatorFault {
		in.halt(err)
	}
	in.mu.Lock()
	in.attempts += attempts
	c.done, c.task, c.err, c.attempts, c.took = true, task, err, attempts, took
	waiting := c.waiting
	c.waiting = nil
	in.mu.Unlock()
	for _, d := range waiting {
		in.settle(c, d)
	}
}

// settle publishes the outcome of a finished call for one of its messages.
func (in *invocation) settle(c *call, d delivery) {
	data := events.NewResultData(d.event)
	if c.err == nil {
		data.BackupSetDownloadTaskID, data.RequestID = c.task.ID, c.task.RequestID
		in.publish(d, outcomeCreated, data, c)
		return
	}
	var service *ServiceError
	if !errors.As(c.err, &service) || service.Kind != Permanent {
		in.leaveOpen(d, c.err, c)
		return
	}
	data.ErrCode, data.ErrMessage = service.Code, cmp.Or(service.Message, service.Code)
	data.HTTPStatusCode, data.RequestID = service.HTTPStatusCode, service.RequestID
	in.fail(d, data, c)
}

// reject fails a message that no call is made for.
func (in *invocation) reject(d delivery, reason events.Error) {
	data := events.NewResultData(d.event)
	data.ErrCode, data.ErrMessage = reason.Code, reason.Message
	in.fail(d, data, &call{})
}

// fail dead-letters the original body and publishes the failure after it. What
// was typed by hand is never dead-lettered: the person has it. Of an empty body
// there is nothing to keep, and MNS takes no empty message.
func (in *invocation) fail(d delivery, data events.ResultData, c *call) {
	if d.event.ByHand || d.event.Body == "" {
		in.publish(d, outcomeFailed, data, c)
		return
	}
	key := failedKey(d.event)
	if _, buried := in.buried.get(key); buried {
		in.publish(d, outcomeFailed, data, c)
		return
	}
	in.deadLetters.add(message{body: d.event.Body, done: func(err error) {
		if err != nil {
			in.unpublished(d, "dead letter", err, c)
			return
		}
		in.buried.put(key, data)
		in.publish(d, outcomeFailed, data, c)
	}})
}

// publish sends the result, and counts the event as done once it is published.
func (in *invocation) publish(d delivery, outcome string, data events.ResultData, c *call) {
	result := events.NewResult(d.id, d.event, in.config.Source, time.Now(), data)
	data = result.Data // bounded, whatever the service answered
	in.results.add(message{body: in.config.ResultEncoding.Encode(result), done: func(err error) {
		if err != nil {
			in.unpublished(d, "result", err, c)
			return
		}
		switch {
		case outcome == outcomeCreated:
			in.record.put(createdKey(d.event), data)
		case !d.event.ByHand: // a person may mend the cause and try again
			in.record.put(failedKey(d.event), data)
		}
		in.done(d, outcome, data, c)
	}})
}

func (in *invocation) unpublished(d delivery, what string, err error, c *call) {
	if kindOf(err) == OperatorFault {
		in.halt(err)
	}
	in.leaveOpen(d, &unpublishedError{what: what, err: err}, c)
}

type unpublishedError struct {
	what string
	err  error
}

func (e *unpublishedError) Error() string {
	return "its " + e.what + " is not published: " + e.err.Error()
}
func (e *unpublishedError) Unwrap() error { return e.err }

func (in *invocation) done(d delivery, outcome string, data events.ResultData, c *call) {
	level, text := slog.LevelInfo, "task created"
	in.mu.Lock()
	if outcome == outcomeCreated {
		in.summary.Created++
	} else {
		in.summary.Failed++
		level, text = slog.LevelError, "event failed"
	}
	in.entry(d.index, outcome, data)
	in.mu.Unlock()
	in.logEvent(level, text, d, data, c, nil)
}

func (in *invocation) alreadyDone(d delivery, data events.ResultData, why string) {
	in.mu.Lock()
	in.summary.AlreadyDone++
	in.entry(d.index, outcomeAlreadyDone, data)
	in.mu.Unlock()
	in.logEvent(slog.LevelInfo, "event "+why, d, data, &call{}, nil)
}

func (in *invocation) ignore(index int, event events.Event) {
	in.mu.Lock()
	in.summary.Ignored++
	in.entry(index, outcomeIgnored, events.NewResultData(event))
	in.mu.Unlock()
	level := slog.LevelInfo
	if !slices.Contains([]string{"INIT", "FILLING", "UNCOMPLETED"}, event.BackupStatus) {
		level = slog.LevelWarn // a status that DBS does not document
	}
	in.log.LogAttrs(in.calls, level, "event ignored: the backup set is not complete",
		slog.String("eventId", events.Truncate(event.ResultID(), 256)),
		slog.String("backupStatus", events.Truncate(event.BackupStatus, 64)))
}

func (in *invocation) dryRun(event events.Event) {
	request := event.Request
	in.mu.Lock()
	defer in.mu.Unlock()
	in.summary.DryRun = &DryRun{
		Action:              "CreateIncrementBackupSetDownload",
		BackupSetID:         request.BackupSetID,
		BackupSetName:       request.BackupSetName,
		BackupSetDataFormat: request.BackupSetDataFormat,
		ClientToken:         request.ClientToken,
		Targets:             in.config.Targets,
	}
}

func (in *invocation) leaveOpen(d delivery, reason error, c *call) {
	in.mu.Lock()
	in.open.add(d.event, reason)
	in.mu.Unlock()
	in.logEvent(slog.LevelWarn, "event open, to be delivered again", d, events.NewResultData(d.event), c, reason)
}

// halt notes the first operator fault. No call starts after it, and nothing is
// dead-lettered; results that are finished are published still.
func (in *invocation) halt(fault error) {
	in.mu.Lock()
	if in.fault == nil {
		in.fault = fault
	}
	in.mu.Unlock()
	in.deadLetters.stop(fault)
	in.stop(fault)
}

// entry adds to the summary. The caller holds mu.
func (in *invocation) entry(index int, outcome string, data events.ResultData) {
	if index < maxEntries {
		in.summary.Results = append(in.summary.Results, Entry{Outcome: outcome, ResultData: data, index: index})
	}
}

// logEvent writes the line of an event's outcome. It names no body and no
// credential.
func (in *invocation) logEvent(level slog.Level, text string, d delivery, data events.ResultData, c *call, reason error) {
	if !in.log.Enabled(in.calls, level) {
		return
	}
	attributes := make([]slog.Attr, 0, 11)
	attributes = append(attributes, slog.String("eventId", d.id))
	for _, a := range []slog.Attr{
		slog.String("clientToken", data.ClientToken),
		slog.String("backupSetId", data.BackupSetID),
		slog.String("backupSetName", data.BackupSetName),
		slog.String("taskId", data.BackupSetDownloadTaskID),
		slog.String("dbsRequestId", data.RequestID),
		slog.String("errCode", data.ErrCode),
	} {
		if a.Value.String() != "" {
			attributes = append(attributes, a)
		}
	}
	if c.attempts > 0 {
		attributes = append(attributes, slog.Int("attempts", c.attempts), slog.Int64("durationMs", c.took.Milliseconds()))
	}
	switch {
	case reason != nil:
		attributes = append(attributes, slog.String("error", reason.Error()))
	case data.ErrMessage != "":
		attributes = append(attributes, slog.String("error", data.ErrMessage))
	}
	in.log.LogAttrs(in.calls, level, text, attributes...)
}
