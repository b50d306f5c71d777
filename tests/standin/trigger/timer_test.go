package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin/trigger"
)

func TestTimer_BuildsTheEvent(t *testing.T) {
	at := time.Date(2023, 12, 26, 15, 49, 0, 123, time.FixedZone("", 8*3600))
	for name, c := range map[string]struct {
		timer trigger.Timer
		event string
	}{
		"a payload":           {trigger.Timer{Name: "discovery", Text: `{"Discover":{}}`}, `{"triggerTime":"2023-12-26T07:49:00Z","triggerName":"discovery","payload":"{\"Discover\":{}}"}`},
		"an empty payload":    {trigger.Timer{}, `{"triggerTime":"2023-12-26T07:49:00Z","triggerName":"timer","payload":""}`},
		"no payload":          {trigger.Timer{WithoutPayload: true}, `{"triggerTime":"2023-12-26T07:49:00Z","triggerName":"timer"}`},
		"a payload, not none": {trigger.Timer{Text: "x", WithoutPayload: true}, `{"triggerTime":"2023-12-26T07:49:00Z","triggerName":"timer","payload":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.event, string(c.timer.Payload(at)))
		})
	}
}

func TestTimer_RepeatsAFailedInvocation(t *testing.T) {
	for name, c := range map[string]struct {
		retries, failures int
		attempts          int
		fails             bool
	}{
		"no failure":                  {1, 0, 1, false},
		"a failure":                   {1, 1, 2, false},
		"a failure too many":          {1, 2, 2, true},
		"a failure, without attempts": {0, 1, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var payloads []string
				fired := 0
				timer := trigger.Timer{Retries: c.retries,
					Deliver: func(_ context.Context, payload []byte) error {
						payloads = append(payloads, string(payload))
						if len(payloads) <= c.failures {
							return errors.New("failed")
						}
						return nil
					},
					Fired: func(int, error) { fired++ }}
				started := time.Now()
				err := timer.Fire(t.Context())
				assert.Equal(t, c.fails, err != nil)
				require.Len(t, payloads, c.attempts)
				assert.Equal(t, c.attempts, fired)
				assert.Equal(t, time.Duration(c.attempts-1)*time.Second, time.Since(started))
				for _, payload := range payloads {
					assert.Equal(t, payloads[0], payload, "the same event")
				}
			})
		})
	}
}

func TestTimer_FiresAtEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := 0
		timer := trigger.Timer{Every: 15 * time.Minute, Deliver: func(context.Context, []byte) error {
			fired++
			return errors.New("this ends nothing")
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Minute)
		defer cancel()
		timer.Run(ctx)
		assert.Equal(t, 4, fired)
	})
}

func ExampleTimer() {
	timer := trigger.Timer{Name: "discovery", Text: "{}", Deliver: func(_ context.Context, payload []byte) error {
		fmt.Println(len(payload) > 0)
		return nil
	}}
	fmt.Println(timer.Fire(context.Background()))
	// Output:
	// true
	// <nil>
}
