package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// errReaderGone ends a run whose output is no longer read, as after head.
var errReaderGone = errors.New("the reader of the output has gone away")

// pipe is a writer that ends the run when its reader has gone away.
type pipe struct {
	io.Writer
	end context.CancelCauseFunc
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		p.end(errReaderGone)
	}
	return n, err
}

// console prints lines for a person, and says what takes so long. It is safe for
// concurrent use.
type console struct {
	mu  sync.Mutex
	out io.Writer
	// silence is how long it prints nothing before it says what it waits for.
	silence time.Duration
	last    time.Time     // of the last line
	state   func() string // what takes its time; nil: nothing
	since   time.Time     // of the state
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	return c.out.Write(p)
}

func (c *console) say(format string, args ...any) { _, _ = fmt.Fprintf(c, format+"\n", args...) }

// during says what takes its time until the returned function is called. The state is
// asked for each time.
func (c *console) during(state func() string) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, since := c.state, c.since
	c.state, c.since, c.last = state, time.Now(), time.Now()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state, c.since = before, since
	}
}

// watch breaks the silence until ctx ends.
func (c *console) watch(ctx context.Context) {
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		state, since, due := c.state, c.since, time.Since(c.last) >= c.silence
		c.mu.Unlock()
		if state != nil && due {
			c.say("  ... %.0f s: %s", time.Since(since).Seconds(), shorten(state(), 85))
		}
	}
}
