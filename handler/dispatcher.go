package handler

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// dispatcher hands the calls of a batch to at most limit workers: first attempts
// in the order in which they come, then repeats as they fall due. A call that
// waits for its repeat holds no worker.
type dispatcher struct {
	ctx     context.Context // no call is handed out after its end
	limit   int
	attempt func(*call)        // makes one attempt of a call
	giveUp  func(*call, error) // ends a call that is not handed out any more

	work    chan *call
	workers sync.WaitGroup
	started int           // workers; used only by the goroutine that dispatches
	changed chan struct{} // holds a value after each change of what mu guards

	mu       sync.Mutex // guards what follows
	repeats  byDue
	inFlight int
}

func newDispatcher(ctx context.Context, limit int, attempt func(*call), giveUp func(*call, error)) *dispatcher {
	return &dispatcher{ctx: ctx, limit: limit, attempt: attempt, giveUp: giveUp, work: make(chan *call), changed: make(chan struct{}, 1)}
}

// dispatch hands a call to a worker, and waits until one is free. It must be
// called by one goroutine, the one that calls finish.
func (d *dispatcher) dispatch(c *call) {
	d.mu.Lock()
	d.inFlight++
	d.mu.Unlock()
	if d.started < d.limit {
		// Workers are started as there is work for them: one event, one worker.
		select {
		case d.work <- c:
			return
		default:
			d.started++
			d.workers.Go(d.serve)
		}
	}
	select {
	case d.work <- c:
	case <-d.ctx.Done():
		d.giveUp(c, context.Cause(d.ctx))
		d.returned()
	}
}

func (d *dispatcher) serve() {
	for c := range d.work {
		d.attempt(c)
		d.returned()
	}
}

// returned notes that a call is no longer in flight.
func (d *dispatcher) returned() {
	d.mu.Lock()
	d.inFlight--
	d.mu.Unlock()
	d.wake()
}

// repeat has another attempt of a call made when it is due. Workers call it.
func (d *dispatcher) repeat(c *call) {
	d.mu.Lock()
	heap.Push(&d.repeats, c)
	d.mu.Unlock()
	d.wake()
}

func (d *dispatcher) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// finish dispatches the repeats until none is left, and ends the workers.
func (d *dispatcher) finish() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c, wait, left := d.next()
		switch {
		case !left:
			close(d.work)
			d.workers.Wait()
			return
		case c != nil:
			d.dispatch(c)
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

// next returns the call that is due, or how long to wait for it or for a change,
// and whether anything is left to do.
func (d *dispatcher) next() (c *call, wait time.Duration, left bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.repeats) == 0 {
		return nil, time.Hour, d.inFlight > 0
	}
	if wait := time.Until(d.repeats[0].due); wait > 0 && d.ctx.Err() == nil {
		return nil, wait, true
	}
	c, _ = heap.Pop(&d.repeats).(*call)
	return c, 0, true
}

// abandon gives up the calls that wait for a repeat, and waits for a change.
func (d *dispatcher) abandon() {
	d.mu.Lock()
	given := d.repeats
	d.repeats = nil
	inFlight := d.inFlight
	d.mu.Unlock()
	for _, c := range given {
		d.giveUp(c, context.Cause(d.ctx))
	}
	if inFlight > 0 {
		<-d.changed
	}
}

// byDue is a heap of calls by the time they are due.
type byDue []*call

func (r byDue) Len() int           { return len(r) }
func (r byDue) Less(i, j int) bool { return r[i].due.Before(r[j].due) }
func (r byDue) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *byDue) Push(c any) {
	if c, ok := c.(*call); ok {
		*r = append(*r, c)
	}
}
func (r *byDue) Pop() any {
	last := len(*r) - 1
	c := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return c
}
