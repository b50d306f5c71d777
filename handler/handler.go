package handler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
)

// Targets names the endpoints and queues that the function would use; a dry run answers
// with it.
type Targets struct {
	DBSEndpoint     string `json:"dbsEndpoint"`
	MNSEndpoint     string `json:"mnsEndpoint"`
	ResultQueue     string `json:"resultQueue"`
	DeadLetterQueue string `json:"deadLetterQueue"`
}

// Config describes the deployment.
type Config struct {
	Source               events.Source
	DataFormat           string          // of events that name none; empty: not sent
	ResultEncoding       events.Encoding // empty: raw
	Concurrency          int             // DBS calls in flight, at least 1
	MaxRequestsPerSecond int             // DBS calls started a second; 0: no limit
	BackupPlanIDs        []string        // that discovery looks at if it is not asked for others
	LookbackHours        int             // how far back discovery looks; 0: [discovery.DefaultLookbackHours]
	Targets              Targets
}

// Handler handles payloads. It is immutable, except for its records of finished
// events, and safe for concurrent use.
type Handler struct {
	config       Config
	decoder      events.Decoder
	ports        Ports
	limits       *attempt.Limits
	discoverer   *discovery.Discoverer
	checker      *check.Checker
	done         *record // events that are done
	deadLettered *record // messages in the dead-letter queue, their failure published or not; keys only
	log          *slog.Logger
}

// recordLimit bounds each record, in bytes. It holds some 20,000 events with usual
// IDs: more than the largest batch of the trigger, which has 10,000.
const recordLimit = 5 << 20

// New returns a handler that reaches the services through ports.
func New(config Config, ports Ports, log *slog.Logger) *Handler {
	limits := attempt.NewLimits(config.Concurrency, config.MaxRequestsPerSecond)
	found := discovery.Config{Source: config.Source, BackupPlanIDs: config.BackupPlanIDs, LookbackHours: config.LookbackHours}
	checked := check.Config{BackupPlanIDs: config.BackupPlanIDs,
		Results: ports.Results, DeadLetters: ports.DeadLetters, Source: ports.Source}
	return &Handler{
		config:       config,
		decoder:      events.Decoder{DataFormat: config.DataFormat},
		ports:        ports,
		limits:       limits,
		discoverer:   discovery.New(found, ports.Lists, ports.Source, limits, log),
		checker:      check.New(checked, ports.Check, limits, log),
		done:         newRecord(recordLimit),
		deadLettered: newRecord(recordLimit),
		log:          log,
	}
}

// Serve dispatches a payload to the use case that it asks for: backup events to
// [Handler.Handle], a timer event or a Discover command to [discovery.Discoverer.Run],
// a Check command to [check.Checker.Run]. The answer is a [Summary], a
// [discovery.Answer] or a [check.Report].
func (h *Handler) Serve(ctx context.Context, requestID string, payload []byte) (answer any, err error) {
	late := attempt.CheckDeadline(ctx)
	command, isCommand, wrong := events.ReadCommand(payload)
	switch {
	case late != nil:
		err = &OperatorFaultError{Fault: late}
	case wrong != nil:
		err = &EventError{Reason: wrong}
	case !isCommand:
		return h.Handle(ctx, requestID, payload)
	case command.Check:
		return h.checker.Run(ctx, requestID), nil
	default:
		answer, err = h.discoverer.Run(ctx, requestID, command.Discover, command.Timer)
		var lacks *events.Error
		if !errors.As(err, &lacks) {
			return answer, err
		}
		err = &EventError{Reason: lacks}
	}
	logInvocation(h.log.With("requestId", requestID), err, nil)
	return answer, err
}

// Handle handles one payload, in any shape that [events.Decoder] reads. requestID
// is that of the invocation, for the log. Handle returns before the deadline of
// ctx, without which it would go on for as long as a service fails, and leaves no
// goroutine behind; every result that is finished by then is published. Its error
// is a [*RedeliveryError], an [*OperatorFaultError] or an [*EventError]; the summary
// counts what was done in either case.
func (h *Handler) Handle(ctx context.Context, requestID string, payload []byte) (Summary, error) {
	started := time.Now()
	invocation, cancel := attempt.NewInvocation(ctx, len(payload), h.log.With("requestId", requestID))
	defer cancel()
	b := newBatch(invocation, h)
	summary, err := b.run(payload)
	b.tally.logInvocation(err, time.Since(started), invocation.Counts())
	return summary, err
}

// remember notes that an event is done: a task created, a failure published, or a
// follow-up answered. The last two are remembered by message ID only, so that an event
// that is sent again after its cause is fixed is tried again.
func (h *Handler) remember(d *delivery, e ending) {
	switch {
	case e.outcome == outcomeOpen, e.outcome == outcomeAlreadyDone:
	case e.outcome == outcomeCreated:
		h.done.put(d.created, doneOf(e.data))
	case d.event.MessageID != "":
		h.done.put(d.message, doneOf(e.data))
	}
}

// logInvocation logs an invocation's outcome.
func logInvocation(log *slog.Logger, err error, attributes []slog.Attr) {
	level, text := slog.LevelInfo, "invocation done"
	var refused *EventError
	var fault *OperatorFaultError
	switch {
	case errors.As(err, &fault):
		level, text = slog.LevelError, "operator fault"
	case errors.As(err, &refused):
		level, text = slog.LevelWarn, "payload refused"
	case err != nil:
		level, text = slog.LevelWarn, "events left open for redelivery"
	}
	if service := cloud.ErrorOf(err); service.Code != "" {
		attributes = append(attributes, slog.String("errCode", service.Code))
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	log.LogAttrs(context.Background(), level, text, attributes...)
}
