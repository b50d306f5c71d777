package attempt

import (
	"sync"
	"time"
)

// patience is the least timeout of the calls that share it. If a service is slow
// for good, every first attempt would otherwise time out and use up the time of a large
// batch. It is safe for concurrent use.
type patience struct {
	usual time.Duration

	mu      sync.Mutex // guards what follows
	timeout time.Duration
}

// newPatience returns a patience that starts with the usual timeout of an attempt.
func newPatience(usual time.Duration) *patience { return &patience{usual: usual, timeout: usual} }

func (p *patience) least() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timeout
}

// exhausted doubles the timeout after an attempt that used it up. An attempt with a
// shorter timeout says nothing new; one with a longer timeout is of a call that
// timed out before, and may be slow by itself.
func (p *patience) exhausted(timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if timeout == p.timeout {
		p.timeout *= 2
	}
}

// answered returns to the usual timeout after an answer within it.
func (p *patience) answered(took time.Duration) {
	if took > p.usual {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = p.usual
}
