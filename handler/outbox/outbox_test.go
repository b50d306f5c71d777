package outbox_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
)

// fakeQueue keeps the batches that it takes.
type fakeQueue struct {
	before func(ctx context.Context) error // may refuse a request
	encode bool                            // bodies go in base64

	mu      sync.Mutex
	batches [][]outbox.Message
	at      []time.Time
}

func (f *fakeQueue) Send(ctx context.Context, messages []outbox.Message) []error {
	answers := make([]error, len(messages))
	if f.before != nil {
		if err := f.before(ctx); err != nil {
			for i := range answers {
				answers[i] = err
			}
			return answers
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches, f.at = append(f.batches, messages), append(f.at, time.Now())
	return answers
}

func (f *fakeQueue) Size(body string) int {
	if f.encode {
		return (len(body) + 2) / 3 * 4
	}
	return len(body)
}

func open(t *testing.T, queue outbox.Queue, timeout time.Duration) *outbox.Outbox {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	invocation, done := attempt.NewInvocation(ctx, 0, slog.New(slog.DiscardHandler))
	t.Cleanup(done)
	return outbox.New(invocation, queue)
}

func TestOutbox_AMessageWaitsASecondForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{}
		o := open(t, queue, time.Minute)
		started := time.Now()
		var accepted atomic.Int32
		add := func() {
			o.Add(outbox.Message{Body: "body"}, func(err error) {
				if err == nil {
					accepted.Add(1)
				}
			})
		}
		// One message every 300 ms: others that come do not make the first wait longer.
		for range 10 {
			add()
			time.Sleep(300 * time.Millisecond)
		}
		require.NotEmpty(t, queue.at)
		assert.Equal(t, time.Second, queue.at[0].Sub(started))
		assert.Len(t, queue.batches[0], 4)
		o.Flush()
		assert.EqualValues(t, 10, accepted.Load())
	})
}

func TestOutbox_SendsAFullBatchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{}
		o := open(t, queue, time.Minute)
		for range 17 {
			o.Add(outbox.Message{Body: "body", Delay: time.Minute}, func(error) {})
		}
		synctest.Wait()
		require.Len(t, queue.batches, 1)
		assert.Len(t, queue.batches[0], 16)
		assert.Equal(t, time.Minute, queue.batches[0][15].Delay)
		o.Flush()
		assert.Len(t, queue.batches, 2)
	})
}

func TestOutbox_CountsBodiesAsTheyAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{encode: true}
		o := open(t, queue, time.Minute)
		for range 8 {
			o.Add(outbox.Message{Body: strings.Repeat("\x01", 15_000)}, func(error) {})
		}
		o.Flush()
		for _, batch := range queue.batches {
			assert.LessOrEqual(t, len(batch)*20_000, outbox.MaxBytes)
		}
		assert.Len(t, queue.batches, 3)
	})
}

func TestOutbox_TakesNoMoreWhileTooMuchIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers atomic.Bool
		queue := &fakeQueue{before: func(ctx context.Context) error {
			if !answers.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		o := open(t, queue, time.Minute)
		body := strings.Repeat("x", 60_000)
		var added, accepted atomic.Int32
		go func() {
			for range 200 {
				o.Add(outbox.Message{Body: body}, func(err error) {
					if err == nil {
						accepted.Add(1)
					}
				})
				added.Add(1)
			}
		}()
		synctest.Wait()
		assert.InDelta(t, 4<<20, int(added.Load())*len(body), 2*60_000)
		answers.Store(true)
		time.Sleep(30 * time.Second)
		assert.EqualValues(t, 200, added.Load(), "there is room again")
		o.Flush()
		assert.EqualValues(t, 200, accepted.Load())
	})
}

func TestOutbox_GivesAMessageUpWhenTheTimeForCallsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{before: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		o := open(t, queue, time.Minute)
		started := time.Now()
		var failed atomic.Int32
		for range 100 {
			o.Add(outbox.Message{Body: strings.Repeat("x", 60_000)}, func(err error) {
				require.Error(t, err)
				failed.Add(1)
			})
		}
		assert.Equal(t, 49*time.Second, time.Since(started), "a second is for the answer, ten are for publishing")
		o.Flush()
		assert.EqualValues(t, 100, failed.Load())
		assert.Less(t, time.Since(started), time.Minute)
	})
}

func TestOutbox_AFaultLetsThoseGoOnThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{before: func(context.Context) error {
			time.Sleep(time.Second)
			return &cloud.Error{Kind: cloud.OperatorFault, Service: "MNS", Code: "QueueNotExist"}
		}}
		o := open(t, queue, time.Minute)
		started := time.Now()
		failed := 0
		var mu sync.Mutex
		for range 200 {
			o.Add(outbox.Message{Body: strings.Repeat("x", 60_000)}, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				assert.ErrorContains(t, err, "QueueNotExist")
				failed++
			})
		}
		o.Flush()
		assert.Equal(t, 200, failed)
		assert.Less(t, time.Since(started), 3*time.Second)
	})
}

// refusingQueue answers for each message with what refuse returns.
type refusingQueue struct {
	refuse   func(body string, of int) error // of: messages in the request
	requests atomic.Int32
}

func (q *refusingQueue) Send(_ context.Context, messages []outbox.Message) []error {
	q.requests.Add(1)
	answers := make([]error, len(messages))
	for i, m := range messages {
		answers[i] = q.refuse(m.Body, len(messages))
	}
	return answers
}

func (q *refusingQueue) Size(body string) int { return len(body) }

// send adds bodies, and returns when and how each has ended.
func send(o *outbox.Outbox, bodies ...string) (after map[string]time.Duration, errs map[string]error) {
	after, errs = make(map[string]time.Duration), make(map[string]error)
	var mu sync.Mutex
	started := time.Now()
	for _, body := range bodies {
		o.Add(outbox.Message{Body: body}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			after[body], errs[body] = time.Since(started), err
		})
	}
	o.Flush()
	return after, errs
}

// A whole request is refused with an unknown code because of one message in it.
func TestOutbox_AnUnknownRefusalTakesOneMessageOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := &cloud.Error{Service: "MNS", Code: "MessageBodyOdd", HTTPStatusCode: 400, Unrecognized: true}
		queue := &refusingQueue{refuse: func(body string, of int) error {
			if of > 1 || body == "odd" { // the odd message is in every request for several
				return odd
			}
			return nil
		}}
		_, errs := send(open(t, queue, time.Minute), "a", "odd", "b", "c")
		assert.Equal(t, map[string]error{"a": nil, "odd": odd, "b": nil, "c": nil}, errs)
		assert.EqualValues(t, 3+3+3, queue.requests.Load(), "three attempts together, one of each of three, three of the odd one")
	})
}

// What is refused for good in a batch is sent alone at once, whatever the rest waits for.
func TestOutbox_ARefusedMessageDoesNotWaitForItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &refusingQueue{refuse: func(body string, of int) error {
			switch {
			case body == "large" && of > 1:
				return &cloud.Error{Service: "MNS", Kind: cloud.Permanent, Code: "InvalidArgument", HTTPStatusCode: 400}
			case body == "failing":
				return &cloud.Error{Service: "MNS", Kind: cloud.Transient, Code: "InternalError", HTTPStatusCode: 500}
			}
			return nil
		}}
		after, errs := send(open(t, queue, time.Minute), "large", "failing")
		require.NoError(t, errs["large"])
		require.Error(t, errs["failing"])
		assert.Zero(t, after["large"])
		assert.Greater(t, after["failing"], 30*time.Second)
	})
}

// Small messages cost more memory than their bytes.
func TestOutbox_BoundsSmallMessagesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{before: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		o := open(t, queue, time.Minute)
		var added atomic.Int32
		go func() {
			for range 10_000 {
				o.Add(outbox.Message{Body: "1"}, func(error) {})
				added.Add(1)
			}
			o.Flush()
		}()
		time.Sleep(time.Second)
		assert.LessOrEqual(t, added.Load(), int32(4<<20>>10))
	})
}

// If a queue refuses everything with an unknown code, single messages are not to blame.
func TestOutbox_AQueueThatRefusesAllIsNotAskedForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := &cloud.Error{Service: "MNS", Code: "Odd", HTTPStatusCode: 400, Unrecognized: true}
		queue := &refusingQueue{refuse: func(string, int) error { return odd }}
		bodies := make([]string, 1600)
		for i := range bodies {
			bodies[i] = strconv.Itoa(i)
		}
		_, errs := send(open(t, queue, 5*time.Minute), bodies...)
		assert.Len(t, errs, len(bodies))
		assert.EqualValues(t, 3*100+3*160, queue.requests.Load(), "three for each batch, and for each of 160 messages")
	})
}

// A fault of DBS stops the dead letters, whose queue does not answer.
func TestOutbox_AStopLetsThoseGoOnThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{before: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		o := open(t, queue, time.Minute)
		var added atomic.Int32
		go func() {
			for range 200 {
				o.Add(outbox.Message{Body: strings.Repeat("x", 60_000)}, func(error) {})
				added.Add(1)
			}
		}()
		synctest.Wait()
		require.Less(t, added.Load(), int32(200))
		o.Stop(&cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission"})
		synctest.Wait()
		assert.EqualValues(t, 200, added.Load())
		o.Flush()
	})
}

func TestOutbox_FillsARequestToTheLastByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &fakeQueue{}
		send(open(t, queue, time.Minute), strings.Repeat("a", outbox.MaxBytes/2), strings.Repeat("b", outbox.MaxBytes/2))
		assert.Len(t, queue.batches, 1)
	})
}

// Room comes back with each message that ends, not with the last.
func TestOutbox_TakesMoreAsSoonAsThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answered atomic.Int32
		queue := &fakeQueue{before: func(ctx context.Context) error {
			if answered.Add(1) > 2 { // two of seventy
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(time.Second)
			return nil
		}}
		o := open(t, queue, time.Minute)
		var added atomic.Int32
		go func() {
			for range 72 {
				o.Add(outbox.Message{Body: strings.Repeat("x", 60_000)}, func(error) {})
				added.Add(1)
			}
		}()
		synctest.Wait()
		before := added.Load()
		require.Less(t, before, int32(72))
		time.Sleep(2 * time.Second)
		assert.Greater(t, added.Load(), before)
		time.Sleep(time.Minute)
		o.Flush()
	})
}

func TestOutbox_SaysTheFirstFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &cloud.Error{Kind: cloud.OperatorFault, Code: "First"}, &cloud.Error{Kind: cloud.OperatorFault, Code: "Second"}
		o := open(t, &fakeQueue{}, time.Minute)
		o.Stop(first)
		o.Stop(second)
		_, errs := send(o, "a")
		assert.Equal(t, map[string]error{"a": first}, errs)
	})
}
