package harness

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"increment-backup-download/tests/standin/fcruntime"
)

// Output collects what a process writes. The zero value is ready, and it is safe for
// concurrent use.
//
// What a process wrote comes through a pipe, so it may arrive after the process has
// answered. Wait before you read, above all if you assert that something is
// absent.
type Output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	unended []byte        // the start of a line whose end has not come yet
	changed chan struct{} // closed at the next write, if anybody waits
	follow  func(line string)
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	if o.follow == nil {
		return len(p), nil
	}
	o.unended = append(o.unended, p...)
	for {
		line, rest, ended := bytes.Cut(o.unended, []byte{'\n'})
		if !ended {
			return len(p), nil
		}
		o.follow(string(line))
		o.unended = rest
	}
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Follow calls a function with each line that ends from now on. It must not use the
// Output.
func (o *Output) Follow(line func(string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.follow, o.unended = line, nil
}

// WaitFor waits until the text has been written.
func (o *Output) WaitFor(ctx context.Context, text string) error {
	for {
		o.mu.Lock()
		if bytes.Contains(o.text.Bytes(), []byte(text)) {
			o.mu.Unlock()
			return nil
		}
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %q in the output: %w", text, ctx.Err())
		}
	}
}

// LogOf returns the output of the instance once it holds all that the invocation with
// this answer wrote. An invocation that the process did not live to answer has no
// such end.
func (i *Instance) LogOf(ctx context.Context, answer fcruntime.Answer) (string, error) {
	// The last line of an invocation: fc-runtime-go-sdk v0.3.1, fc/function.go.
	if err := i.Output.WaitFor(ctx, "FC Invoke End RequestId: "+answer.RequestID); err != nil {
		return "", err
	}
	return i.Output.String(), nil
}
