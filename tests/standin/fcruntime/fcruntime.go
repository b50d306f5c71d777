// Package fcruntime is a stand-in for the runtime API of Function Compute, version
// 2020-11-11, from which a function's executable takes its invocations. It knows no
// initializers and no HTTP functions.
package fcruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"increment-backup-download/tests/standin"
)

// Function describes the function whose executable asks for work.
type Function struct {
	Name      string
	Handler   string
	MemoryMB  int
	Region    string
	AccountID string
}

// Invocation is one invocation.
type Invocation struct {
	Payload []byte
	Timeout time.Duration // at least a second; the deadline is this far away
	Key     standin.Key   // the credentials of the function's role
}

// Answer is what the function answered.
type Answer struct {
	RequestID string
	Payload   []byte        // of a success
	Error     *Error        // of a failure
	Took      time.Duration // from handing the invocation out to the answer
}

// Error is a failed invocation.
type Error struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// ErrTimeout and ErrExited fail an invocation that the executable did not answer.
var (
	ErrTimeout = errors.New("the function timed out")
	ErrExited  = errors.New("the function's process exited")
)

// Service is the stand-in: one function, one instance. It hands out one
// invocation at a time unless Concurrency says more, and is safe for concurrent
// use.
type Service struct {
	Function    Function
	Concurrency int // instanceConcurrency; 0 means 1
	// BeforeAnswer, if set, runs when an answer arrives, and reports whether it
	// counts.
	BeforeAnswer func() bool

	mu      sync.Mutex
	changed chan struct{}
	waiting []*pending
	running map[string]*pending
	asked   int           // requests for work
	exited  chan struct{} // closed when the process ends that asks for work
}

type pending struct {
	Invocation
	id      string
	started time.Time
	done    chan struct{}
	answer  Answer
	err     error
}

// New returns the runtime API of a function.
func New(function Function) *Service {
	return &Service{
		Function: function, running: make(map[string]*pending),
		changed: make(chan struct{}), exited: make(chan struct{}),
	}
}

func (s *Service) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Invoke invokes the function and waits for its answer. The error is not the
// function's: ErrTimeout, ErrExited, or that of ctx.
func (s *Service) Invoke(ctx context.Context, invocation Invocation) (Answer, error) {
	p := &pending{Invocation: invocation, id: "1-" + strings.ToLower(standin.Random(32)), done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, p)
	s.wake()
	s.mu.Unlock()
	// The clock of the timeout starts when the function gets the invocation; the
	// wait for a cold start comes before.
	timeout := time.NewTimer(invocation.Timeout + 30*time.Second)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		started, changed := p.started, s.changed
		s.mu.Unlock()
		if !started.IsZero() {
			timeout.Reset(time.Until(started.Add(invocation.Timeout)))
			changed = nil
		}
		select {
		case <-p.done:
			return p.answer, p.err
		case <-changed:
		case <-timeout.C:
			s.abort(p, ErrTimeout)
			return p.answer, p.err
		case <-ctx.Done():
			s.abort(p, ctx.Err())
			return p.answer, p.err
		}
	}
}

func (s *Service) abort(p *pending, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(p, Answer{RequestID: p.id}, err)
}

// finish ends an invocation once. The caller holds mu.
func (s *Service) finish(p *pending, answer Answer, err error) {
	select {
	case <-p.done:
		return
	default:
	}
	for i, w := range s.waiting {
		if w == p {
			s.waiting = append(s.waiting[:i:i], s.waiting[i+1:]...)
			break
		}
	}
	delete(s.running, p.id)
	p.answer, p.err = answer, err
	close(p.done)
	s.wake()
}

// Exited fails the running invocations, as Function Compute does when the
// function's process ends, and hands no more to that process.
func (s *Service) Exited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.exited)
	s.exited = make(chan struct{})
	for _, p := range s.running {
		s.finish(p, Answer{RequestID: p.id}, ErrExited)
	}
}

// AskedForWork waits until the executable has asked for work at least n times.
func (s *Service) AskedForWork(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		asked, changed := s.asked, s.changed
		s.mu.Unlock()
		if asked >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const prefix = "/2020-11-11/runtime/invocation/"

// ServeHTTP serves the runtime API.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, prefix)
	id, kind, _ := strings.Cut(rest, "/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodGet && rest == "next":
		s.serveNext(w, r)
	case r.Method == http.MethodPost && (kind == "response" || kind == "error"):
		s.serveAnswer(w, r, id, kind)
	default:
		http.NotFound(w, r)
	}
}

func (s *Service) serveNext(w http.ResponseWriter, r *http.Request) {
	var p *pending
	s.mu.Lock()
	s.asked++
	s.wake()
	exited := s.exited
	for p == nil {
		select {
		case <-exited:
			s.mu.Unlock()
			return
		default:
		}
		if len(s.waiting) > 0 && len(s.running) < max(s.Concurrency, 1) {
			p = s.waiting[0]
			s.waiting = s.waiting[1:]
			p.started = time.Now()
			s.running[p.id] = p
			s.wake()
			break
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-exited:
			return
		case <-r.Context().Done():
			return
		}
		s.mu.Lock()
	}
	s.mu.Unlock()

	for name, value := range map[string]string{
		"x-fc-request-id":        p.id,
		"x-fc-function-deadline": strconv.FormatInt(p.started.Add(p.Timeout).UnixMilli(), 10),
		"x-fc-function-timeout":  strconv.Itoa(int(p.Timeout.Seconds())),
		"x-fc-function-type":     "0",
		"x-fc-function-name":     s.Function.Name,
		"x-fc-function-handler":  s.Function.Handler,
		"x-fc-function-memory":   strconv.Itoa(s.Function.MemoryMB),
		"x-fc-region":            s.Function.Region,
		"x-fc-account-id":        s.Function.AccountID,
		"x-fc-access-key-id":     p.Key.ID,
		"x-fc-access-key-secret": p.Key.Secret,
		"x-fc-security-token":    p.Key.Token,
		"Content-Type":           "application/octet-stream",
	} {
		w.Header().Set(name, value)
	}
	_, _ = w.Write(p.Payload)
}

func (s *Service) serveAnswer(w http.ResponseWriter, r *http.Request, id, kind string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 32<<20))
	if err != nil {
		return
	}
	if s.BeforeAnswer != nil && !s.BeforeAnswer() {
		<-r.Context().Done()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.running[id]
	if !ok {
		http.Error(w, "no such invocation", http.StatusNotFound)
		return
	}
	answer := Answer{RequestID: id, Payload: body, Took: time.Since(p.started)}
	if kind == "error" {
		answer.Payload, answer.Error = nil, &Error{}
		if err := json.Unmarshal(body, answer.Error); err != nil {
			answer.Error = &Error{Type: "Unreadable", Message: fmt.Sprintf("%v: %s", err, body)}
		}
	}
	s.finish(p, answer, nil)
}
