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

Each figure is the median of several samples, beside a yardstick measured in the same run, in
turn: times depend on the machine, the ratio of the two hardly does. The yardsticks:

  empty handler    the same runtime with a handler that does nothing
  minimal client   the shortest code that sends the same requests, without any safety

Rows "on 0.05 vCPU, 128 MB" run in a control group of the size that s.yaml deploys; that needs
Linux and root. Without them the benchmark leaves these rows out and says so.

Usage:
  go run ./tests/bench [flags]

Flags:
  -quick      fewer rounds and smaller batches: a minute instead of ten
  -run NAME   measure only the steps whose name contains NAME
  -markdown   print the tables in Markdown, as docs/benchmark.md has them
  -json       print one JSON document with every sample
  -h          print this

Steps:
%s
Exit status: 0, even if a figure misses its goal or an invocation is killed or late: the tables
say so. 1 if something could not be measured; 2 for a wrong flag.
`

type options struct {
	quick    bool
	json     bool
	markdown bool
	run      string
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
	flags.BoolVar(&opts.markdown, "markdown", false, "")
	flags.StringVar(&opts.run, "run", "", "")
	b := &bench{ctx: ctx}
	err := flags.Parse(arguments)
	b.options = opts
	steps := b.steps()
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is not a flag", flags.Arg(0))
	case opts.json && opts.markdown:
		err = errors.New("give -json or -markdown, not both")
	case len(steps) == 0:
		err = fmt.Errorf("no step has a name that contains %q", opts.run)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		var list strings.Builder
		for _, s := range steps {
			_, _ = fmt.Fprintf(&list, "  %-18s %s\n", s.name, s.about)
		}
		_, _ = fmt.Fprintf(stdout, usage, list.String())
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
	name, about string
	measure     func() error
}

// steps are those that -run takes.
func (b *bench) steps() []step {
	var steps []step
	for _, s := range []step{
		{"size", "the executable", b.sizes},
		{"start", "from exec to the first request for work", b.start},
		{"batch", "1,000 events", b.thousand},
		{"small-batch", "1,000 events on 0.05 vCPU", b.thousandDeployed},
		{"cpu", "CPU time an event", b.cpu},
		{"follow", "CPU time an event whose task is followed", b.following},
		{"one", "one event, median and 99th percentile", b.one},
		{"tls", "the first batch over TLS, and one after idle connections were closed", b.secureBatches},
		{"peak", "peak memory of large and of small payloads", b.memory},
		{"limit-memory", "the payloads and faults that want the most memory, in 128 MB", b.memoryLimits},
		{"limit-time", "10,000 events on 0.05 vCPU with short timeouts", b.deadlines},
		{"growth", "one batch, by its size", b.growth},
		{"concurrency", "one batch, by CONCURRENCY", b.concurrency},
		{"discovery-history", "one discovery run, by the tasks ever made", b.history},
		{"discovery-sets", "one discovery run, by the sets in the lookback", b.lookback},
		{"discovery-plans", "one discovery run over 250 plans", b.plans},
	} {
		if strings.Contains(s.name, strings.ToLower(b.options.run)) {
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
	noGroup                  bool   // the deployed size cannot be measured here
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
	b.doc.Machine = machine()
	if why := withoutGroup(); why != "" {
		b.noGroup = true
		b.doc.Notes = append(b.doc.Notes, "Nothing was measured on "+onDeployed+": "+why+".")
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
	switch {
	case b.json:
		return json.NewEncoder(stdout).Encode(b.doc)
	case b.markdown:
		b.doc.printMarkdown(stdout)
	default:
		b.doc.print(stdout)
	}
	return nil
}
