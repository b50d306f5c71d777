package handler_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

// loadedDBS answers every call after 20 ms, and decides by its state which it refuses.
type loadedDBS struct {
	refuse func(*loadedDBS, events.Request) error
	random *rand.Rand

	mu       sync.Mutex
	calls    int
	inFlight int
	made     map[string]int // calls by token
	done     []time.Time
	tokens   float64 // of a bucket
	last     time.Time
	window   time.Time
	inWindow int
}

const loadLatency = 20 * time.Millisecond

func (s *loadedDBS) before(_ context.Context, request events.Request) error {
	s.mu.Lock()
	s.inFlight++
	s.calls++
	s.made[request.ClientToken]++
	err := s.refuse(s, request)
	s.mu.Unlock()
	time.Sleep(loadLatency)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if err == nil {
		s.done = append(s.done, time.Now())
	}
	return err
}

// often refuses the given share of calls.
func often(share float64, failure func(*rand.Rand) error) func(*loadedDBS, events.Request) error {
	return func(s *loadedDBS, _ events.Request) error {
		if s.random.Float64() < share {
			return failure(s.random)
		}
		return nil
	}
}

// thrice refuses the first three calls of each event.
func thrice(failure func(*rand.Rand) error) func(*loadedDBS, events.Request) error {
	return func(s *loadedDBS, request events.Request) error {
		if s.made[request.ClientToken] <= 3 {
			return failure(s.random)
		}
		return nil
	}
}

// inFlight takes n calls at a time.
func inFlight(n int) func(*loadedDBS, events.Request) error {
	return func(s *loadedDBS, _ events.Request) error {
		if s.inFlight > n {
			return throttled(0)
		}
		return nil
	}
}

// perSecond takes so many calls a second, and burst at once.
func perSecond(rate, burst float64) func(*loadedDBS, events.Request) error {
	return func(s *loadedDBS, _ events.Request) error {
		now := time.Now()
		if s.tokens = min(burst, s.tokens+rate*now.Sub(s.last).Seconds()); s.last.IsZero() {
			s.tokens = burst
		}
		if s.last = now; s.tokens < 1 {
			return throttled(0)
		}
		s.tokens--
		return nil
	}
}

// perWindow takes n calls in each window, and says how long the rest of it is.
func perWindow(n int, window time.Duration) func(*loadedDBS, events.Request) error {
	return func(s *loadedDBS, _ events.Request) error {
		now := time.Now()
		if s.window.IsZero() || now.Sub(s.window) >= window {
			s.window, s.inWindow = now, 0
		}
		if s.inWindow++; s.inWindow > n {
			return throttled(window - now.Sub(s.window))
		}
		return nil
	}
}

func onlyThrottled(*rand.Rand) error { return throttled(0) }

// mixed is what a brown-out answers: throttled, an error of the server, or nothing.
func mixed(random *rand.Rand) error {
	switch random.IntN(3) {
	case 0:
		return throttled(0)
	case 1:
		return transient("InternalError")
	}
	return transient("NoAnswer")
}

// TestHandler_UnderLoad holds how long a batch takes under loads of many shapes, in
// virtual time, at 16 calls in flight: the worst of seven seeds. With -v it prints the
// table of docs/design.md.
func TestHandler_UnderLoad(t *testing.T) {
	for _, c := range []struct {
		name      string
		events    int
		budget    time.Duration
		perSecond int
		refuse    func(*loadedDBS, events.Request) error
		ideal     float64 // seconds

		within  float64 // seconds, of all events or of nine in ten
		most    bool    // nine in ten
		open    int     // at most
		callsAt int     // most calls; 0: any
	}{
		{name: "nothing fails", events: 500, refuse: often(0, onlyThrottled), ideal: 0.63, within: 0.7},
		{name: "32 events, three mixed failures each, in 16 s", events: 32, budget: 16 * time.Second, refuse: thrice(mixed), ideal: 0.16, within: 3},
		{name: "500 events, three mixed failures each", events: 500, refuse: thrice(mixed), ideal: 2.5, within: 18},
		{name: "5 % throttled", events: 500, refuse: often(0.05, onlyThrottled), ideal: 0.66, within: 3},
		{name: "25 % throttled", events: 500, refuse: often(0.25, onlyThrottled), ideal: 0.83, within: 7},
		{name: "75 % mixed: nine in ten events", events: 500, refuse: often(0.75, mixed), ideal: 2.5, within: 20, most: true},
		{name: "takes 4 calls at a time", events: 500, refuse: inFlight(4), ideal: 2.5, within: 3.5},
		{name: "takes 1 call at a time", events: 200, refuse: inFlight(1), ideal: 4, within: 6},
		{name: "takes 50 a second", events: 500, refuse: perSecond(50, 50), ideal: 9, within: 11},
		{name: "takes 200 a second", events: 2000, refuse: perSecond(200, 10), ideal: 10, within: 12},
		{name: "takes 100 in ten seconds, with a hint", events: 500, refuse: perWindow(100, 10*time.Second), ideal: 40, within: 41, callsAt: 600},
		{name: "MAX_REQUESTS_PER_SECOND 50, 25 % throttled", events: 500, perSecond: 50, refuse: often(0.25, onlyThrottled), ideal: 13.3, within: 17},
		{name: "one answer asks for 60 s, in 60 s", events: 500, budget: time.Minute, ideal: 0.63, within: 12, open: 1,
			refuse: func(s *loadedDBS, _ events.Request) error {
				if s.calls == 3 {
					return throttled(time.Minute)
				}
				return nil
			}},
		{name: "one event always throttled, in 60 s: nine in ten events", events: 500, budget: time.Minute, ideal: 0.63, within: 1, most: true, open: 1,
			refuse: func(_ *loadedDBS, request events.Request) error {
				if request.ClientToken == "event-3" {
					return throttled(0)
				}
				return nil
			}},
	} {
		if c.budget == 0 {
			c.budget = 5 * time.Minute
		}
		var took []float64
		var open, calls []int
		for seed := range 7 {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(k *handler.Config) { k.Concurrency, k.MaxRequestsPerSecond = 16, c.perSecond })
				s := &loadedDBS{refuse: c.refuse, made: map[string]int{}, random: rand.New(rand.NewPCG(uint64(seed), 7))}
				d.dbs.before = s.before
				began := time.Now()
				summary, _ := d.handle(t, c.budget, batch(items(c.events)...))
				open = append(open, c.events-summary.Created)
				calls = append(calls, s.calls)
				last := len(s.done)
				if c.most {
					last = c.events * 9 / 10
				}
				if len(s.done) < last || last == 0 {
					took = append(took, c.budget.Seconds())
				} else {
					took = append(took, s.done[last-1].Sub(began).Seconds())
				}
			})
		}
		slices.Sort(took)
		t.Logf("| %s | %.2f | %.2f | %.2f | %d | %d |", c.name, c.ideal, took[3], took[6], slices.Max(calls), slices.Max(open))
		assert.LessOrEqual(t, took[6], c.within, c.name)
		assert.LessOrEqual(t, slices.Max(open), c.open, "%s: open", c.name)
		if c.callsAt > 0 {
			assert.LessOrEqual(t, slices.Max(calls), c.callsAt, "%s: calls", c.name)
		}
	}
}
