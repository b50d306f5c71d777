package standin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is a way in which a call to a service goes wrong.
type Kind string

// The kinds. Those that end in After come once the service has done what was asked.
const (
	Latency       Kind = "latency"        // the answer comes late, after Delay
	Refuse        Kind = "refuse"         // an error answer with Status and Code
	Throttle      Kind = "throttle"       // the service's throttling answer, with Delay as its wait hint
	Reset         Kind = "reset"          // the connection is reset
	ResetAfter    Kind = "reset-after"    // the same, after the effect
	Close         Kind = "close"          // the connection is closed
	CloseAfter    Kind = "close-after"    // the same, after the effect
	TruncateAfter Kind = "truncate-after" // half an answer
	HTMLAfter     Kind = "html-after"     // a gateway's page with a good status
	BadGateway    Kind = "bad-gateway"    // a gateway's page with status 502
	EmptyAfter    Kind = "empty-after"    // a good status and no body
	Hang          Kind = "hang"           // no answer until the client goes away
	HangAfter     Kind = "hang-after"     // the same, after the effect
	Redirect      Kind = "redirect"       // to Location
	Partial       Kind = "partial"        // some messages of a batch are refused
	Short         Kind = "short"          // a page of a list has fewer rows than it should, and the usual totals
)

// Fault is one fault.
type Fault struct {
	Kind     Kind
	Delay    time.Duration
	Status   int
	Code     string
	Message  string
	Location string
	Then     func() // runs when a call hangs, after the effect if there is one
}

// Plan decides which fault, if any, a request meets. It must be safe for concurrent
// use.
type Plan func(*http.Request) *Fault

// Always meets every request with one fault.
func Always(f Fault) Plan { return func(*http.Request) *Fault { return &f } }

// Script meets the first requests with the given faults, one each, and no others.
// A nil fault lets a request pass.
func Script(faults ...*Fault) Plan {
	var next atomic.Int64
	return func(*http.Request) *Fault {
		if i := next.Add(1) - 1; i < int64(len(faults)) {
			return faults[i]
		}
		return nil
	}
}

// Randomly meets a share of the requests with faults drawn from the given ones.
// One seed gives one sequence of draws.
func Randomly(rate float64, seed uint64, faults []Fault) Plan {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // G404: replayable on purpose
	return func(*http.Request) *Fault {
		mu.Lock()
		defer mu.Unlock()
		if random.Float64() >= rate {
			return nil
		}
		return &faults[random.IntN(len(faults))]
	}
}

// Service is a stand-in that faults can be put in front of.
type Service interface {
	http.Handler
	// WriteError answers with an error in the service's own form.
	WriteError(w http.ResponseWriter, status int, code, message string)
	// WriteThrottle answers with the service's throttling error and wait hint.
	WriteThrottle(w http.ResponseWriter, wait time.Duration)
}

// Faulty is a service with a plan of faults in front.
type Faulty struct {
	service Service
	plan    atomic.Pointer[Plan]
	met     atomic.Int64
}

// WithFaults puts an empty plan of faults in front of a service.
func WithFaults(service Service) *Faulty { return &Faulty{service: service} }

// SetPlan changes the plan; nil ends all faults.
func (f *Faulty) SetPlan(plan Plan) {
	if plan == nil {
		f.plan.Store(nil)
		return
	}
	f.plan.Store(&plan)
}

// Met returns how many requests met a fault.
func (f *Faulty) Met() int { return int(f.met.Load()) }

type contextKey int

const (
	partialKey contextKey = iota
	shortKey
	countedKey
)

// IsPartial reports whether a batch is to be refused in part.
func IsPartial(ctx context.Context) bool { return ctx.Value(partialKey) != nil }

// IsShort reports whether a page of a list is to be cut short.
func IsShort(ctx context.Context) bool { return ctx.Value(shortKey) != nil }

// IsCounted reports whether the call has been counted by the service already.
func IsCounted(ctx context.Context) bool { return ctx.Value(countedKey) != nil }

// with returns a request whose context has a mark.
func with(r *http.Request, mark contextKey) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), mark, true))
}

// Choose applies a plan only to the requests that takes accepts; the plan sees no
// others. So a plan can be for one operation of DBS (dbs.ActionOf), or for one queue
// (mns.QueueOf).
func Choose(takes func(*http.Request) bool, plan Plan) Plan {
	return func(r *http.Request) *Fault {
		if !takes(r) {
			return nil
		}
		return plan(r)
	}
}

// ServeHTTP serves a request as the plan says.
func (f *Faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if counter, ok := f.service.(interface{ Arrived(*http.Request) }); ok {
		counter.Arrived(r)
		r = with(r, countedKey)
	}
	var fault *Fault
	if plan := f.plan.Load(); plan != nil {
		fault = (*plan)(r)
	}
	if fault == nil {
		f.service.ServeHTTP(w, r)
		return
	}
	f.met.Add(1)
	const page = "<html><body><h1>Bad Gateway</h1></body></html>"
	switch fault.Kind {
	case Latency:
		pause(r.Context(), fault.Delay)
		f.service.ServeHTTP(w, r)
	case Refuse:
		f.service.WriteError(w, fault.Status, fault.Code, fault.Message)
	case Throttle:
		f.service.WriteThrottle(w, fault.Delay)
	case Reset, Close:
		hangUp(w, fault.Kind == Reset)
	case ResetAfter, CloseAfter:
		f.effect(r)
		hangUp(w, fault.Kind == ResetAfter)
	case TruncateAfter:
		done := f.effect(r)
		body := done.Body.Bytes()
		w.Header().Set("Content-Type", done.Header().Get("Content-Type"))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(done.Code)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		hangUp(w, false)
	case HTMLAfter:
		done := f.effect(r)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(done.Code)
		_, _ = w.Write([]byte(page))
	case BadGateway:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte(page))
	case EmptyAfter:
		w.WriteHeader(f.effect(r).Code)
	case Hang, HangAfter:
		if fault.Kind == HangAfter {
			f.effect(r)
		}
		if fault.Then != nil {
			fault.Then()
		}
		pause(r.Context(), time.Hour)
	case Redirect:
		http.Redirect(w, r, fault.Location, http.StatusTemporaryRedirect)
	case Partial:
		f.service.ServeHTTP(w, with(r, partialKey))
	case Short:
		f.service.ServeHTTP(w, with(r, shortKey))
	default:
		panic(fmt.Sprintf("standin: no fault of kind %q", fault.Kind))
	}
}

// effect lets the service do what was asked, and returns its answer.
func (f *Faulty) effect(r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	f.service.ServeHTTP(recorder, r)
	return recorder
}

// hangUp ends the connection without an answer, or in the middle of one.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
