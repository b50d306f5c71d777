package handler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"increment-backup-download/events"
)

// Targets names where the function would send what; a dry run answers with it.
type Targets struct {
	DBSEndpoint     string `json:"dbsEndpoint"`
	MNSEndpoint     string `json:"mnsEndpoint"`
	ResultQueue     string `json:"resultQueue"`
	DeadLetterQueue string `json:"deadLetterQueue"`
}

// Config is what the handler is told about its deployment.
type Config struct {
	Source               events.Source
	DataFormat           string          // of events that name none; empty: not sent
	ResultEncoding       events.Encoding // empty: raw
	Concurrency          int             // DBS calls in flight, at least 1
	MaxRequestsPerSecond int             // DBS calls started a second; 0: no limit
	Targets              Targets
}

// Handler handles payloads. It is immutable but for the record of what it has
// done, and safe for concurrent use.
type Handler struct {
	config      Config
	decoder     events.Decoder
	tasks       TaskCreator
	results     Queue
	deadLetters Queue
	limiter     *rate.Limiter
	record      *record // of events that are done
	buried      *record // of events that are dead-lettered, their result published or not
	log         *slog.Logger
}

// The record of done events holds more than the largest batch of the trigger
// (10,000), in six megabytes for usual names. Dead letters should be few; the
// record of them only keeps a result queue that is out of order from filling the
// dead-letter queue with repeats.
const (
	recordSize = 16_384
	buriedSize = 1_024
)

// New returns a handler that creates tasks with tasks, publishes results to
// results and original bodies that can never succeed to deadLetters.
func New(config Config, tasks TaskCreator, results, deadLetters Queue, log *slog.Logger) *Handler {
	h := &Handler{
		config:      config,
		decoder:     events.Decoder{DataFormat: config.DataFormat},
		tasks:       tasks,
		results:     results,
		deadLetters: deadLetters,
		record:      newRecord(recordSize),
		buried:      newRecord(buriedSize),
		log:         log,
	}
	if n := config.MaxRequestsPerSecond; n > 0 {
		h.limiter = rate.NewLimiter(rate.Limit(n), 1)
	}
	return h
}

// Handle handles one payload of any shape that [events.Decoder] reads. requestID
// is that of the invocation, for the log. Handle returns before the deadline of
// ctx, without which it would go on for as long as a service fails, and leaves no
// goroutine behind; every result that is finished by then is published. Its error
// is a [*RedeliveryError], an [*OperatorFaultError] or an [*EventError]; the summary
// counts what was done in either case.
func (h *Handler) Handle(ctx context.Context, requestID string, payload []byte) (Summary, error) {
	started := time.Now()
	log := h.log.With("requestId", requestID)
	calls, publishing, cancel := withBudget(ctx, len(payload))
	defer cancel()

	in := newInvocation(calls, publishing, h, log)
	defer in.cancel()
	err := in.run(payload)

	level, text := slog.LevelInfo, "invocation done"
	var eventErr *EventError
	var fault *OperatorFaultError
	switch {
	case errors.As(err, &fault):
		level, text = slog.LevelError, "operator fault"
	case errors.As(err, &eventErr):
		level, text = slog.LevelWarn, "payload refused"
	case err != nil:
		level, text = slog.LevelWarn, "events left open for redelivery"
	}
	attributes := []slog.Attr{
		slog.Int("events", in.summary.Events),
		slog.Int("created", in.summary.Created),
		slog.Int("failed", in.summary.Failed),
		slog.Int("ignored", in.summary.Ignored),
		slog.Int("alreadyDone", in.summary.AlreadyDone),
		slog.Int("open", in.open.open),
		slog.Int("attempts", in.attempts),
		slog.Int64("throttled", in.caller.log.throttled.Load()),
		slog.Int64("durationMs", time.Since(started).Milliseconds()),
	}
	var service *ServiceError
	if errors.As(err, &service) {
		attributes = append(attributes, slog.String("errCode", events.Truncate(service.Code, events.MaxAnswerID)))
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	log.LogAttrs(ctx, level, text, attributes...)
	return in.summary, err
}
