package handler

import (
	"context"
	"slices"
	"sync"
	"time"
)

// work is what a dispatcher hands to its workers. One worker at a time has it.
type work interface {
	// Attempt makes one attempt, and returns how long to wait before the next one, and
	// whether there is to be one.
	Attempt() (wait time.Duration, again bool)
	// GiveUp ends work that no worker has any more, for the given reason.
	GiveUp(reason error)
}

// dispatcher hands the work of a batch to at most limit workers: first attempts in the
// order in which they come, then repeats as they fall due. Work that waits for its
// repeat holds no worker.
type dispatcher struct {
	ctx   context.Context // nothing is handed out after its end
	limit int

	queue   chan work
	workers sync.WaitGroup
	started int           // workers; used only by the goroutine that dispatches
	changed chan struct{} // holds a value after each change of what mu guards

	mu       sync.Mutex // guards what follows
	repeats  []repeat   // by the time they are due
	inFlight int
}

func newDispatcher(ctx context.Context, limit int) *dispatcher {
	return &dispatcher{ctx: ctx, limit: limit, queue: make(chan work), changed: make(chan struct{}, 1)}
}

// dispatch hands work to a worker, and waits until one is free. It must be called by
// one goroutine, the one that calls drain and finish.
func (d *dispatcher) dispatch(w work) {
	d.mu.Lock()
	d.inFlight++
	d.mu.Unlock()
	if d.started < d.limit {
		// Workers are started as there is work for them: one event, one worker.
		select {
		case d.queue <- w:
			return
		default:
			d.started++
			d.workers.Go(d.serve)
		}
	}
	select {
	case d.queue <- w:
	case <-d.ctx.Done():
		w.GiveUp(context.Cause(d.ctx))
		d.leave()
	}
}

func (d *dispatcher) serve() {
	for w := range d.queue {
		if wait, again := w.Attempt(); again {
			d.repeat(w, wait)
		}
		d.leave()
	}
}

// leave notes that work is no longer in flight.
func (d *dispatcher) leave() {
	d.mu.Lock()
	d.inFlight--
	d.mu.Unlock()
	d.wake()
}

// repeat has another attempt made after a wait. Workers call it.
func (d *dispatcher) repeat(w work, wait time.Duration) {
	due := time.Now().Add(wait)
	d.mu.Lock()
	at, _ := slices.BinarySearchFunc(d.repeats, due, func(r repeat, due time.Time) int { return r.due.Compare(due) })
	d.repeats = slices.Insert(d.repeats, at, repeat{w, due})
	d.mu.Unlock()
	d.wake()
}

func (d *dispatcher) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// finish ends the workers after their last work, which must not ask for another attempt.
func (d *dispatcher) finish() {
	close(d.queue)
	d.workers.Wait()
}

// drain dispatches the repeats, and returns when all work has ended.
func (d *dispatcher) drain() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w, wait, left := d.next()
		switch {
		case !left:
			return
		case w != nil:
			d.dispatch(w)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-d.changed:
		case <-d.ctx.Done():
			d.abandon()
		}
	}
}

// next returns the work that is to be dispatched, or how long to wait for it or for a
// change, and whether anything is left to do.
func (d *dispatcher) next() (w work, wait time.Duration, left bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait = time.Hour
	if len(d.repeats) > 0 {
		if wait = time.Until(d.repeats[0].due); wait <= 0 || d.ctx.Err() != nil {
			w, d.repeats = d.repeats[0].work, d.repeats[1:]
			return w, 0, true
		}
	}
	return nil, wait, len(d.repeats) > 0 || d.inFlight > 0
}

// abandon gives up the work that waits for a repeat, and waits for a change.
func (d *dispatcher) abandon() {
	d.mu.Lock()
	given := d.repeats
	d.repeats = nil
	inFlight := d.inFlight
	d.mu.Unlock()
	for _, r := range given {
		r.work.GiveUp(context.Cause(d.ctx))
	}
	if inFlight > 0 {
		<-d.changed
	}
}

// repeat is work that waits for its next attempt.
type repeat struct {
	work work
	due  time.Time
}
