// Command local runs the function on this machine, without a cloud account: it
// starts stand-ins for Function Compute, DBS and MNS on loopback, builds the real
// executable, lets a timer discover backup sets, puts backup events into the source
// queue, lets the trigger stand-in deliver them, and shows what became of each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// Without this, a write to a closed pipe ends the process before it has cleaned up.
	// Ignoring the signal instead would be inherited by the processes started here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, arguments []string, stdin io.Reader, stdout, stderr io.Writer) int {
	opts, err := parse(arguments)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "local: %v\nRun with -h for help.\n", err)
		return 2
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLocal(opts, stdin, &pipe{stdout, cancel}, &pipe{stderr, cancel})
	ok, err := l.run(ctx)
	switch {
	case errors.Is(context.Cause(ctx), errReaderGone):
		return 0 // it has seen what it wanted
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "local: %v\n", err)
		return 1
	case !ok:
		return 1
	}
	return 0
}
