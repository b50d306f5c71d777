package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

// batch handles the events of one payload: the calling goroutine decodes them,
// workers call DBS, and the outboxes publish meanwhile.
type batch struct {
	handler     *Handler
	caller      *attempt.Caller
	tally       *tally
	duplicates  *duplicates
	dispatcher  *dispatcher
	results     *outbox.Outbox
	deadLetters *outbox.Outbox
	source      *outbox.Outbox // nil: there is none
	follower    *follow.Follower
	invocation  *attempt.Invocation
	stopCalls   context.CancelCauseFunc
}

func newBatch(invocation *attempt.Invocation, h *Handler) *batch {
	caller := invocation.CallDBS(h.limits.NewPacer(h.limits.Concurrency))
	starting, stop := context.WithCancelCause(caller.Starting)
	caller.Starting = starting
	b := &batch{
		handler:     h,
		invocation:  invocation,
		caller:      caller,
		tally:       &tally{log: invocation.Log},
		duplicates:  newDuplicates(),
		dispatcher:  newDispatcher(starting, h.limits.Concurrency),
		results:     outbox.New(invocation, h.ports.Results),
		deadLetters: outbox.New(invocation, h.ports.DeadLetters),
		stopCalls:   stop,
	}
	if h.ports.Source != nil {
		b.source = outbox.New(invocation, h.ports.Source)
	}
	b.follower = &follow.Follower{
		Caller: b.caller, Tasks: h.ports.States, Results: b.results, Source: b.source,
		Encoding: h.config.ResultEncoding, Log: invocation.Log,
	}
	return b
}

// run handles the payload, and returns when every event has ended.
func (b *batch) run(payload []byte) (Summary, error) {
	defer b.stopCalls(nil)
	var refused error
	read, unread := 0, false
	for event, malformed := range b.handler.decoder.Decode(payload) {
		if read > 0 && read%maxKept == 0 {
			b.dispatcher.drain()
			b.flush()
			b.duplicates = newDuplicates()
		}
		if unread = b.invocation.Publishing.Err() != nil; unread {
			break
		}
		if malformed != nil && event.ByHand {
			refused = cmp.Or(refused, error(&EventError{Reason: malformed}))
		} else {
			b.start(&delivery{index: read, event: event, resultID: event.ResultID()}, malformed)
		}
		read++
	}
	b.dispatcher.drain()
	// Last: each question takes a place and a turn that an event may need.
	for _, question := range b.follower.Questions {
		b.dispatcher.dispatch(question)
	}
	b.dispatcher.finish()
	b.flush()
	summary, err := b.tally.close(read, unread)
	return summary, cmp.Or(err, refused)
}

// maxKept is how many events are told apart at a time, some kilobyte each: twice as many
// as the largest batch of the trigger has. Of more, the first must end.
const maxKept = 20_000

// flush publishes what is ready: a dead letter adds a result, and a result a follow-up.
func (b *batch) flush() {
	b.deadLetters.Flush()
	b.results.Flush()
	if b.source != nil {
		b.source.Flush()
	}
}

// start starts the work that an event needs.
func (b *batch) start(d *delivery, malformed error) {
	switch {
	case malformed == nil && d.event.Ignored():
		b.tally.add(d, ending{outcome: outcomeIgnored, data: events.NewResultData(d.event)})
		return
	case malformed == nil && d.event.DryRun:
		b.tally.dryRun(DryRun{Action: "CreateIncrementBackupSetDownload", Request: d.event.Request, Targets: b.handler.config.Targets})
		return
	}
	keys := d.setKeys(malformed == nil)
	if first, ended := b.duplicates.admit(d, keys); first != nil {
		if ended {
			b.endAsRepeat(first, d)
		}
		return
	}
	for _, key := range keys {
		if done, ok := b.handler.done.get(key); ok {
			b.duplicates.know(d.event.Request, done)
			b.end(d, ending{outcome: outcomeAlreadyDone, data: done.data(d.event)})
			return
		}
	}
	switch {
	case malformed != nil:
		b.reject(d, malformed)
	case d.event.FollowUp != nil:
		b.takeFollowUp(d)
	default:
		if c := b.join(d); c != nil {
			b.dispatcher.dispatch(c)
		}
	}
}

// takeFollowUp queues the question for the state of a task, after the calls of all events. The
// follow-up ends when the task's end, or the next follow-up, is published.
func (b *batch) takeFollowUp(d *delivery) {
	b.follower.Take(*d.event.FollowUp, func(f follow.Ending) {
		e := ending{outcome: outcome(f.Outcome), data: f.Data, followed: &f}
		switch {
		case f.Err != nil && f.Outcome == follow.Pending:
			b.leaveUnpublished(d, e, "follow-up", f.Err)
		case f.Err != nil:
			b.leaveUnpublished(d, e, "result", f.Err)
		default:
			b.end(d, e)
		}
	})
}

// join lets an event take part in the call for its ClientToken. It returns the call
// if it is yet to be made.
func (b *batch) join(d *delivery) *creation {
	c, wait := b.duplicates.join(d)
	switch {
	case wait:
	case c.answer == nil:
		c.batch = b
		return c
	case c.request == d.event.Request:
		b.settle(d, *c.answer)
	case c.answer.failure == nil:
		b.reject(d, &events.Error{Code: events.CodeConflict,
			Message: "another event of the batch has the same ClientToken and a different request; give each backup set an event ID, or a ClientToken, of its own"})
	default:
		b.end(d, ending{outcome: outcomeOpen, data: events.NewResultData(d.event), reason: fmt.Errorf(
			"another event of the batch has the same ClientToken and a different request, and is open: %w", c.answer.failure)})
	}
	return nil
}

// settle publishes the outcome of a call for one of its events.
func (b *batch) settle(d *delivery, a answer) {
	e := ending{data: events.NewResultData(d.event), attempts: a.attempts, took: a.took}
	service := cloud.ErrorOf(a.failure)
	switch {
	case a.failure == nil:
		e.outcome = outcomeCreated
		e.data.BackupSetDownloadTaskID, e.data.RequestID = a.task.ID, a.task.RequestID
		b.publish(d, e)
	case a.permanent:
		e.outcome = outcomeFailed
		e.data.ErrCode, e.data.ErrMessage = service.Code, cmp.Or(service.Message, service.Code)
		e.data.HTTPStatusCode, e.data.RequestID = service.HTTPStatusCode, service.RequestID
		b.fail(d, e)
	default:
		e.outcome, e.reason = outcomeOpen, a.failure
		b.end(d, e)
	}
}

// reject fails an event that no call is made for.
func (b *batch) reject(d *delivery, reason error) {
	e := ending{outcome: outcomeFailed, data: events.NewResultData(d.event)}
	e.data.ErrMessage = reason.Error()
	var event *events.Error
	if errors.As(reason, &event) {
		e.data.ErrCode, e.data.ErrMessage = event.Code, event.Message
	}
	b.fail(d, e)
}

// fail puts the original body into the dead-letter queue, and publishes the failure
// after it.
func (b *batch) fail(d *delivery, e ending) {
	body := d.event.Body
	_, kept := b.handler.deadLettered.get(d.message) // by an earlier invocation, which could not publish the failure
	switch {
	case kept,
		d.event.ByHand, // the person has it
		d.event.Announced && d.event.Request.ClientToken != "", // DBS has the set, and the next run would announce it again
		body == "": // MNS takes no empty message
		b.publish(d, e)
		return
	case len(body) > outbox.MaxBytes:
		b.publish(d, e.unkept(d))
		return
	}
	b.deadLetters.Add(outbox.Message{Body: body}, func(err error) {
		switch {
		case err == nil:
			if d.event.MessageID != "" {
				b.handler.deadLettered.put(d.message, done{})
			}
			b.publish(d, e)
		case cloud.KindOf(err) == cloud.Permanent && len(body) > maxEncodable:
			b.publish(d, e.unkept(d))
		default:
			b.leaveUnpublished(d, e, "dead letter", err)
		}
	})
}

// maxEncodable is how large a body may be to fit a message in base64, which carries
// what XML cannot.
const maxEncodable = outbox.MaxBytes / 4 * 3

// publish sends the result of an event, and the first follow-up of its task after it.
// The event ends once both are published. A result that came back as an event gets no
// result of its own: source and result queue are the same, and it would come back
// forever. An unreadable follow-up gets none either, since its event has one.
func (b *batch) publish(d *delivery, e ending) {
	if e.data.ErrCode == events.CodeOwnResult || e.data.ErrCode == events.CodeBadFollowUp {
		b.end(d, e)
		return
	}
	kind := events.TypeTaskFailed
	if e.outcome == outcomeCreated {
		kind = events.TypeTaskCreated
	}
	result := events.NewResult(kind, d.resultID, d.event, b.handler.config.Source, time.Now(), e.data)
	e.data = result.Data // bounded, whatever the service answered
	b.results.Add(outbox.Message{Body: b.handler.config.ResultEncoding.Encode(result)}, func(err error) {
		switch {
		case err != nil:
			b.leaveUnpublished(d, e, "result", err)
		case e.outcome != outcomeCreated || b.source == nil:
			b.end(d, e)
		default:
			b.follower.Start(result, func(err error) {
				if err != nil {
					b.leaveUnpublished(d, e, "follow-up", err)
				} else {
					b.end(d, e)
				}
			})
		}
	})
}

// leaveUnpublished leaves an event open whose result, dead letter or follow-up is not
// published.
func (b *batch) leaveUnpublished(d *delivery, e ending, what string, err error) {
	if cloud.KindOf(err) == cloud.OperatorFault {
		b.stop(err)
	}
	reason := &unpublishedError{what: what, task: Task{ID: e.data.BackupSetDownloadTaskID, RequestID: e.data.RequestID}, err: err}
	b.end(d, ending{outcome: outcomeOpen, data: e.data, reason: reason})
}

// end remembers, counts and logs the end of an event, and of its repeats.
func (b *batch) end(d *delivery, e ending) {
	b.handler.remember(d, e)
	if e.outcome == outcomeOpen {
		service := cloud.ErrorOf(e.reason)
		e.data.ErrCode, e.data.RequestID = service.Code, cmp.Or(e.data.RequestID, service.RequestID)
		var unpublished *unpublishedError
		if service.Code == "" && errors.Is(e.reason, attempt.ErrTimeUsedUp) && !errors.As(e.reason, &unpublished) {
			e.data.ErrCode = codeNotTried
		}
	}
	b.tally.add(d, e)
	d.event.Body = "" // up to 32 MB in all; repeats need only how the event ended
	for _, repeat := range b.duplicates.close(d, e) {
		b.endAsRepeat(d, repeat)
	}
}

// endAsRepeat ends a repeat of an event as the event itself ended.
func (b *batch) endAsRepeat(first, d *delivery) {
	e := *first.ending
	e.data = doneOf(e.data).data(d.event)
	e.attempts, e.took = 0, 0
	b.handler.remember(d, e)
	if e.outcome != outcomeOpen {
		e.outcome = outcomeAlreadyDone
	}
	b.tally.add(d, e)
}

// stop notes an operator fault. No call starts after it, and nothing more is
// dead-lettered; results that are finished are still published.
func (b *batch) stop(fault error) {
	b.tally.faulted(fault)
	b.deadLetters.Stop(fault)
	b.stopCalls(fault)
}
