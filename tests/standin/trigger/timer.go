package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"time"
)

// Timer is a timer trigger of Function Compute. Its invocations are asynchronous: a
// failed one is repeated, and then dropped.
type Timer struct {
	Name string // of the trigger; empty means timer
	// Text is the payload that the trigger is configured with. Function Compute hands
	// it over as a string, whatever it holds.
	Text string
	// WithoutPayload leaves the field out of the event if Text is empty. Whether the
	// service does that, or sends an empty string, is not documented.
	WithoutPayload bool
	// Every is the interval at which Run fires.
	Every time.Duration
	// Deliver delivers one payload; an error repeats it.
	Deliver func(ctx context.Context, payload []byte) error
	// Retries is maxAsyncRetryAttempts of the function. Its default in the service is
	// 3, here 0.
	Retries int
	// Wait is the wait before a repetition; 0 means a second.
	Wait time.Duration
	// Fired, if set, is called after each delivery, with the error of the delivery.
	Fired func(attempt int, err error)
}

// Payload returns the event of the timer at a moment. See
// https://help.aliyun.com/document_detail/2513615.html.
func (t *Timer) Payload(at time.Time) []byte {
	event := struct {
		Time    string  `json:"triggerTime"`
		Name    string  `json:"triggerName"`
		Payload *string `json:"payload,omitempty"`
	}{at.UTC().Format("2006-01-02T15:04:05Z"), cmp.Or(t.Name, "timer"), &t.Text}
	if t.WithoutPayload && t.Text == "" {
		event.Payload = nil
	}
	payload, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	return payload
}

// Fire delivers one event, and again while that fails, as often as Retries says.
// The error is the last delivery's, or that of ctx.
func (t *Timer) Fire(ctx context.Context) error {
	payload := t.Payload(time.Now())
	for attempt := 1; ; attempt++ {
		err := t.Deliver(ctx, payload)
		if t.Fired != nil {
			t.Fired(attempt, err)
		}
		if err == nil || attempt > t.Retries {
			return err
		}
		if !pause(ctx, cmp.Or(t.Wait, time.Second)) {
			return ctx.Err()
		}
	}
}

// Run fires at each interval until ctx ends. It never fires twice at once; the
// service promises no such thing. What fails is seen by Fired alone.
func (t *Timer) Run(ctx context.Context) {
	for pause(ctx, t.Every) {
		_ = t.Fire(ctx)
	}
}
