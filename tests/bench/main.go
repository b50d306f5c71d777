// Command bench measures the built executable of the function against the
// stand-ins, each figure beside a yardstick that is taken in the same run, in
// turn, so that a noisy machine disturbs both alike.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/schollz/progressbar/v3"

	"increment-backup-download/tests/harness"
)

const usage = `Measure the built executable against the stand-ins.

Each figure stands beside a yardstick taken in the same run, in turn; the ratio is that of
the medians. Absolute times depend on the machine, the ratios hardly at all. A figure is
taken on whole cores or at the deployed size: under the CPU quota that s.yaml asks for, in a
control group (Linux, as root). Without one, the table says so.

Usage:
  go run ./tests/bench [flags]

Flags:
  -quick     fewer rounds and smaller batches: half a minute instead of several minutes
  -run NAME  take only the steps whose name contains NAME
  -json      print one JSON document instead of tables
  -h         print this

Steps:
  %s

Exit status: 0, also if a figure misses its goal, since machines differ; 1 if something
could not be measured; 2 for a wrong flag.
`

type options struct {
	quick bool
	json  bool
	run   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	var opts options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&opts.quick, "quick", false, "")
	flags.BoolVar(&opts.json, "json", false, "")
	flags.StringVar(&opts.run, "run", "", "")
	b := &bench{ctx: ctx}
	err := flags.Parse(arguments)
	b.options = opts
	steps := b.steps()
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is not a flag", flags.Arg(0))
	case len(steps) == 0:
		err = fmt.Errorf("no step has a name that contains %q", opts.run)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		var names []string
		for _, s := range steps {
			names = append(names, s.name)
		}
		_, _ = fmt.Fprintf(stdout, usage, strings.Join(names, "\n  "))
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "bench: %v\nRun with -h for help.\n", err)
		return 2
	}
	if err = b.run(steps, stderr); err == nil {
		err = b.write(stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// step takes one or more figures.
type step struct {
	name    string
	measure func() error
}

// steps are those that -run takes.
func (b *bench) steps() []step {
	var steps []step
	for _, s := range []step{
		{"sizes", b.sizes},
		{"start", b.start},
		{"1,000 events", b.thousand},
		{"1,000 events, deployed", b.thousandDeployed},
		{"CPU", b.cpu},
		{"one event", b.one},
		{"TLS, deployed", b.secureBatches},
		{"memory, 32 MB", b.memoryLarge},
		{"memory, batches", b.memorySmall},
		{"growth", b.growth},
		{"growth, deployed", b.growthDeployed},
		{"concurrency", b.concurrency},
		{"discovery", b.discovery},
	} {
		if strings.Contains(strings.ToLower(s.name), strings.ToLower(b.options.run)) {
			steps = append(steps, s)
		}
	}
	return steps
}

// bench is one run.
type bench struct {
	options
	ctx context.Context //nolint:containedctx // of the one run

	folder                   string // of the executables
	function, empty, minimal string // executables
	doc                      document
}

// rounds is how often each figure is taken.
func (b *bench) rounds(full int) int {
	if b.quick {
		return min(full/2-1, 3)
	}
	return full
}

func (b *bench) run(steps []step, stderr io.Writer) error {
	var err error
	if b.folder, err = os.MkdirTemp("", "increment-backup-download-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.folder) }()
	bar := progressbar.NewOptions(len(steps), progressbar.OptionSetWriter(terminal(stderr)), progressbar.OptionSetDescription("building"),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	for target, into := range map[string]*string{"./bootstrap": &b.function, "./tests/bench/empty": &b.empty, "./tests/bench/minimal": &b.minimal} {
		if *into, err = harness.Build(b.ctx, b.folder, target); err != nil {
			return err
		}
	}
	for _, s := range steps {
		bar.Describe(s.name)
		if err := s.measure(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		_ = bar.Add(1)
	}
	_ = bar.Finish()
	return nil
}

// terminal returns the writer if it is a terminal: progress is for those who watch.
func terminal(w io.Writer) io.Writer {
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return w
		}
	}
	return io.Discard
}

// write reports what was measured.
func (b *bench) write(stdout io.Writer) error {
	if b.json {
		return json.NewEncoder(stdout).Encode(b.doc)
	}
	b.doc.print(stdout)
	return nil
}
