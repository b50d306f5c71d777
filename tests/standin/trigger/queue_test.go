package trigger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// queue is a service with messages in the queue "letters".
func queue(t *testing.T, bodies ...string) *mns.Service {
	t.Helper()
	service := mns.New(standin.NewKeys(), nil, "letters", "dead")
	for _, body := range bodies {
		_, err := service.Put("letters", body)
		require.NoError(t, err)
	}
	return service
}

// bodies are those of the messages in a payload.
func bodies(t *testing.T, payload []byte) []string {
	t.Helper()
	var events []struct {
		Data struct{ MessageBody string }
	}
	require.NoError(t, json.Unmarshal(payload, &events))
	var all []string
	for _, e := range events {
		all = append(all, e.Data.MessageBody)
	}
	return all
}

func TestTrigger_DeliversAFailedBatchWholeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := queue(t, "a", "b", "c")
		var delivered [][]string
		var seen []trigger.Delivery
		tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 2,
			Deliver: func(_ context.Context, payload []byte) error {
				delivered = append(delivered, bodies(t, payload))
				if len(delivered) < 3 {
					return errors.New("not yet")
				}
				return nil
			},
			Delivered: func(d trigger.Delivery) { seen = append(seen, d) }}
		started := time.Now()
		deliveries, failed, err := tr.Drain(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int{4, 2}, []int{deliveries, failed})
		assert.Equal(t, [][]string{{"a", "b"}, {"a", "b"}, {"a", "b"}, {"c"}}, delivered)
		assert.Equal(t, 3*time.Second, time.Since(started), "one second, then two")
		assert.Empty(t, service.Messages("letters"))
		require.Len(t, seen, 4)
		assert.Equal(t, []time.Duration{time.Second, 2 * time.Second, 0, 0}, []time.Duration{seen[0].Wait, seen[1].Wait, seen[2].Wait, seen[3].Wait})
		assert.Equal(t, []int{1, 2, 3, 1}, []int{seen[0].Attempt, seen[1].Attempt, seen[2].Attempt, seen[3].Attempt})
		for _, d := range seen {
			assert.False(t, d.GaveUp())
		}
	})
}

func TestTrigger_GivesABatchUpAfterItsRetries(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		deadLetters string
		err         error
		left        int // in the queue
		dead        int
	}{
		"without a dead-letter queue": {"", refused, 3, 0},
		"with one":                    {"dead", nil, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := queue(t, "a", "b", "c")
				gaveUp := 0
				tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 2, Retries: 1, DeadLetters: c.deadLetters,
					Deliver: func(context.Context, []byte) error { return refused },
					Delivered: func(d trigger.Delivery) {
						if d.GaveUp() {
							gaveUp++
						}
					}}
				deliveries, failed, err := tr.Drain(t.Context())
				require.ErrorIs(t, err, c.err)
				assert.Equal(t, deliveries, failed)
				assert.Len(t, service.Messages("letters"), c.left)
				dead := service.Messages("dead")
				require.Len(t, dead, c.dead)
				assert.Equal(t, max(c.dead, 1), gaveUp)
				if c.dead > 0 {
					assert.Equal(t, []string{"a", "b"}, bodies(t, []byte(dead[0].Body)), "one message a batch")
				}
			})
		})
	}
}

func TestTrigger_RunsUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := queue(t, "a")
		var delivered []string
		tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 10,
			Deliver: func(_ context.Context, payload []byte) error {
				delivered = append(delivered, bodies(t, payload)...)
				return nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- tr.Run(ctx) }()
		time.Sleep(time.Second)
		_, err := service.Put("letters", "b")
		require.NoError(t, err)
		time.Sleep(time.Second)
		cancel()
		require.NoError(t, <-ended)
		assert.Equal(t, []string{"a", "b"}, delivered)
	})
}

func TestTrigger_EndsARunInTheMiddleOfAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := queue(t, "a")
		tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 10,
			Deliver: func(context.Context, []byte) error { return errors.New("refused") }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, tr.Run(ctx))
		assert.Len(t, service.Messages("letters"), 1, "not lost")
	})
}

func TestTrigger_DeliversTwiceIfToldSo(t *testing.T) {
	service := queue(t, "a", "b")
	second := false
	var delivered []string
	tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 10,
		Duplicate: func() bool { second = !second; return second },
		Deliver: func(_ context.Context, payload []byte) error {
			delivered = bodies(t, payload)
			return nil
		}}
	_, _, err := tr.Drain(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "a", "b"}, delivered)
}

func TestTrigger_BoundsABatchByTheBodyOfAnInvocation(t *testing.T) {
	const messages = 160
	service := mns.New(standin.NewKeys(), nil, "letters")
	for range messages {
		_, err := service.Put("letters", strings.Repeat("\x01", 65536)) // six bytes each in JSON
		require.NoError(t, err)
	}
	largest, delivered := 0, 0
	tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 10_000,
		Deliver: func(_ context.Context, payload []byte) error {
			largest = max(largest, len(payload))
			delivered += len(bodies(t, payload))
			return nil
		}}
	deliveries, _, err := tr.Drain(t.Context())
	require.NoError(t, err)
	assert.LessOrEqual(t, largest, 32<<20)
	assert.Greater(t, deliveries, 1)
	assert.Equal(t, messages, delivered)
}

// A queue with two messages is delivered as one batch; the first delivery fails.
func Example() {
	service := mns.New(standin.NewKeys(), nil, "letters")
	for _, body := range []string{"hello", "world"} {
		if _, err := service.Put("letters", body); err != nil {
			fmt.Println(err)
			return
		}
	}
	first := true
	tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 100, FirstWait: time.Millisecond,
		Deliver: func(context.Context, []byte) error {
			if first {
				first = false
				return errors.New("the function failed")
			}
			return nil
		},
		Delivered: func(d trigger.Delivery) { fmt.Println(len(d.Messages), "messages, attempt", d.Attempt, d.Err) },
	}
	fmt.Println(tr.Drain(context.Background()))
	// Output:
	// 2 messages, attempt 1 the function failed
	// 2 messages, attempt 2 <nil>
	// 2 1 <nil>
}

func TestTrigger_DrainsWhatIsDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := queue(t, "now")
		_, err := service.PutDelayed("letters", "later", time.Hour)
		require.NoError(t, err)
		var delivered []string
		tr := &trigger.Trigger{Queue: service, Source: "letters", BatchSize: 10}
		tr.Deliver = func(_ context.Context, payload []byte) error {
			delivered = append(delivered, bodies(t, payload)...)
			if len(delivered) == 2 { // asks for itself once more, as a follow-up does
				_, err := service.PutDelayed("letters", "again", time.Hour)
				require.NoError(t, err)
			}
			return nil
		}
		deliveries, _, err := tr.Drain(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []any{1, []string{"now"}}, []any{deliveries, delivered})
		deliveries, failed, err := tr.DrainDelayed(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []any{2, 0, []string{"now", "later", "again"}}, []any{deliveries, failed, delivered})
		assert.Empty(t, service.Messages("letters"))
	})
}
