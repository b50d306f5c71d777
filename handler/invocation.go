package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// invocation handles the events of one payload: the calling goroutine decodes
// them, workers call DBS, and two outboxes publish what is finished meanwhile.
type invocation struct {
	handler     *Handler
	caller      *caller
	tally       *tally
	duplicates  *duplicates
	dispatcher  *dispatcher
	results     *outbox
	deadLetters *outbox
	patience    *patience // of the calls to DBS
	stopCalls   context.CancelCauseFunc
}

func newInvocation(calls, publishing context.Context, h *Handler, log *slog.Logger) *invocation {
	in := &invocation{handler: h, tally: &tally{log: log}, duplicates: newDuplicates(), patience: newPatience(callTimeout)}
	starting, stop := context.WithCancelCause(calls)
	in.stopCalls = stop
	in.caller = &caller{starting: starting, running: calls, pacer: &pacer{limiter: h.limiter}, log: &callLog{log: log}}
	in.dispatcher = newDispatcher(starting, h.config.Concurrency, in.call, in.abandon)
	in.results = newOutbox(publishing, h.ports.Results, in.caller.log)
	in.deadLetters = newOutbox(publishing, h.ports.DeadLetters, in.caller.log)
	return in
}

// run handles the payload, and returns when all is done.
func (in *invocation) run(payload []byte) (Summary, error) {
	defer in.stopCalls(nil)
	index := 0
	var refused error
	for event, malformed := range in.handler.decoder.Decode(payload) {
		if malformed != nil && event.ByHand {
			in.tally.take()
			refused = cmp.Or(refused, error(&EventError{Reason: malformed}))
		} else {
			in.decoded(index, event, malformed)
		}
		index++
	}
	in.dispatcher.finish()
	// Flush dead letters first: each adds a result once published.
	in.deadLetters.flush()
	in.results.flush()
	summary, err := in.tally.close()
	return summary, cmp.Or(err, refused)
}

// decoded starts the work that a decoded event needs.
func (in *invocation) decoded(index int, event events.Event, malformed *events.Error) {
	in.tally.take()
	d := &delivery{index: index, event: event, resultID: event.ResultID()}
	switch {
	case malformed == nil && event.Ignored():
		in.tally.add(end{delivery: d, outcome: outcomeIgnored, data: events.NewResultData(event), text: "event ignored: the backup set is not complete"})
		return
	case malformed == nil && event.DryRun:
		in.tally.dryRun(in.handler.dryRun(event.Request))
		return
	}

	d.message = messageKey(event, d.resultID)
	keys := append(make([]recordKey, 0, 2), d.message)
	if malformed == nil {
		d.created = createdKey(event, d.resultID)
		keys = append(keys, d.created)
	}
	if first, ended := in.duplicates.admit(d, keys...); first != nil {
		if ended {
			in.endLike(first, d)
		}
		return
	}
	for _, key := range keys {
		if done, ok := in.handler.done.get(key); ok {
			in.duplicates.know(event.Request, done)
			in.end(end{delivery: d, outcome: outcomeAlreadyDone, data: done.of(event), text: "event done by an earlier invocation"})
			return
		}
	}
	if malformed != nil {
		in.reject(d, *malformed)
		return
	}
	if c := in.join(d); c != nil {
		in.dispatcher.dispatch(c)
	}
}

// join lets an event take part in the call for its ClientToken. It returns the
// call if it is to be made.
func (in *invocation) join(d *delivery) *call {
	c, next := in.duplicates.join(d)
	switch next {
	case stepCall:
		return c
	case stepSettle:
		in.settle(c, d)
	case stepConflict:
		in.reject(d, events.Error{Code: events.CodeConflict,
			Message: "another event of the batch has the same ClientToken and a different request; give each backup set an event ID, or a ClientToken, of its own"})
	case stepOpen:
		data := events.NewResultData(d.event)
		data.ErrCode = events.Truncate(cloud.ErrorOf(c.failure).Code, events.MaxAnswerID)
		in.end(end{delivery: d, data: data}.leftOpen(
			fmt.Errorf("another event of the batch has the same ClientToken and a different request, and is open: %w", c.failure)))
	case stepWait:
	}
	return nil
}

// call makes one attempt of a call.
func (in *invocation) call(c *call) {
	if c.started.IsZero() {
		c.started, c.attempts.shared = time.Now(), in.patience
	}
	var task Task
	wait, again, err := in.caller.attempt(&c.attempts, func(ctx context.Context) (err error) {
		task, err = in.handler.ports.Tasks.CreateTask(ctx, c.request)
		return err
	}, slog.String("clientToken", c.request.ClientToken))
	switch {
	case err == nil:
		in.answered(c, task, nil)
	case again:
		c.err, c.due = err, time.Now().Add(wait)
		in.dispatcher.repeat(c)
	case errors.Is(err, errTimeUsedUp):
		in.abandon(c, err)
	default:
		in.answered(c, task, err)
	}
}

// abandon ends a call that is not made again, for its last failure if it was made.
func (in *invocation) abandon(c *call, reason error) {
	in.answered(c, Task{}, cmp.Or(c.err, reason))
}

// answered settles the events that wait for a call.
func (in *invocation) answered(c *call, task Task, failure error) {
	if cloud.KindOf(failure) == cloud.OperatorFault {
		in.stop(failure)
	}
	waiting, rivals := in.duplicates.end(c, task, failure)
	for _, d := range waiting {
		in.settle(c, d)
	}
	for _, d := range rivals {
		if next := in.join(d); next != nil {
			in.dispatcher.repeat(next)
		}
	}
}

// settle starts publishing the outcome of an ended call for one of its events.
func (in *invocation) settle(c *call, d *delivery) {
	e := end{delivery: d, data: events.NewResultData(d.event), attempts: c.attempts.made}
	if !c.started.IsZero() {
		e.took = time.Since(c.started)
	}
	service := cloud.ErrorOf(c.failure)
	switch {
	case c.failure == nil:
		e.outcome, e.text = outcomeCreated, "task created"
		e.data.BackupSetDownloadTaskID, e.data.RequestID = c.task.ID, c.task.RequestID
		in.publish(e)
	case service.Kind == cloud.Permanent:
		e.outcome, e.text = outcomeFailed, "event failed"
		e.data.ErrCode, e.data.ErrMessage = service.Code, cmp.Or(service.Message, service.Code)
		e.data.HTTPStatusCode, e.data.RequestID = service.HTTPStatusCode, service.RequestID
		in.fail(e)
	default:
		code := service.Code
		if code == "" && errors.Is(c.failure, errTimeUsedUp) {
			code = codeNotTried
		}
		e.data.ErrCode, e.data.RequestID = events.Truncate(code, events.MaxAnswerID), events.Truncate(service.RequestID, events.MaxAnswerID)
		in.end(e.leftOpen(c.failure))
	}
}

// reject fails an event that no call is made for.
func (in *invocation) reject(d *delivery, reason events.Error) {
	e := end{delivery: d, outcome: outcomeFailed, text: "event failed", data: events.NewResultData(d.event)}
	e.data.ErrCode, e.data.ErrMessage = reason.Code, reason.Message
	in.fail(e)
}

// fail puts the original body into the dead-letter queue, and publishes the
// failure after it. A result that came back as an event has no result of its own:
// source and result queue are the same, and it would come back forever.
func (in *invocation) fail(e end) {
	switch {
	case e.event.ByHand, // the person has it
		e.event.Announced,          // DBS has the set, and the next run would announce it again
		e.event.Body == "",         // MNS takes no empty message
		in.handler.kept(e.message): // by an earlier invocation, which could not publish the failure
		in.publish(e)
		return
	case len(e.event.Body) > maxBatchBytes:
		in.publishUnkept(e)
		return
	}
	in.deadLetters.add(message{body: e.event.Body, done: func(err error) {
		switch {
		case err == nil:
			if e.event.MessageID != "" {
				in.handler.deadLettered.put(e.message, outcomeData{})
			}
			in.publish(e)
		case cloud.KindOf(err) == cloud.Permanent && len(e.event.Body) > maxEncodable:
			in.publishUnkept(e)
		default:
			in.unpublished(e, "dead letter", err)
		}
	}})
}

// maxEncodable is how large a body may be to fit a message in base64, in which it
// goes if XML cannot carry it.
const maxEncodable = maxBatchBytes / 4 * 3

// publishUnkept publishes the failure of an event whose body no queue can hold.
func (in *invocation) publishUnkept(e end) {
	e.data.ErrMessage = fmt.Sprintf("%s (the body, %d bytes, was too large to keep: a queue message has at most %d)",
		events.Truncate(e.data.ErrMessage, 800), len(e.event.Body), maxBatchBytes)
	in.publish(e)
}

// publish sends the result of an event, which ends once it is published.
func (in *invocation) publish(e end) {
	h := in.handler
	if e.data.ErrCode == events.CodeOwnResult {
		h.remember(e.delivery, e.outcome, outcomeOf(e.data))
		in.end(e)
		return
	}
	result := events.NewResult(e.resultID, e.event, h.config.Source, time.Now(), e.data)
	e.data = result.Data // bounded, whatever the service answered
	in.results.add(message{body: h.config.ResultEncoding.Encode(result), done: func(err error) {
		if err != nil {
			in.unpublished(e, "result", err)
			return
		}
		h.remember(e.delivery, e.outcome, outcomeOf(e.data))
		in.end(e)
	}})
}

// unpublished leaves an event open whose result or dead letter is not published.
func (in *invocation) unpublished(e end, what string, err error) {
	if cloud.KindOf(err) == cloud.OperatorFault {
		in.stop(err)
	}
	e.data.ErrCode = events.Truncate(cloud.ErrorOf(err).Code, events.MaxAnswerID)
	in.end(e.leftOpen(&unpublishedError{what: what, task: Task{ID: e.data.BackupSetDownloadTaskID, RequestID: e.data.RequestID}, err: err}))
}

// end counts and logs the end of an event, and of its repeats.
func (in *invocation) end(e end) {
	in.tally.add(e)
	for _, d := range in.duplicates.close(e) {
		in.endLike(e.fate, d)
	}
}

// endLike ends a repeat of an event as the event itself ended.
func (in *invocation) endLike(first *fate, d *delivery) {
	e := end{delivery: d, data: first.left.of(d.event)}
	if first.outcome == outcomeOpen {
		in.tally.add(e.leftOpen(first.reason))
		return
	}
	in.handler.remember(d, first.outcome, first.left)
	e.outcome, e.text = outcomeAlreadyDone, "event repeated in the batch"
	in.tally.add(e)
}

// stop notes an operator fault. No call starts after it, and nothing more is
// dead-lettered; results that are finished are still published.
func (in *invocation) stop(fault error) {
	in.tally.faulted(fault)
	in.deadLetters.stop(fault)
	in.stopCalls(fault)
}
