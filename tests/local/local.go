package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"increment-backup-download/tests/harness"
)

// local is one run.
type local struct {
	options
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// notes is for what a person sees while it happens: standard output, or standard
	// error if a program reads standard output.
	notes *console
	// timerInterval is how often the timer of -keep fires.
	timerInterval time.Duration
	// taskTime is how long a download task takes.
	taskTime time.Duration

	mu sync.Mutex // guards what event prints as JSON
}

func newLocal(opts options, stdin io.Reader, stdout, stderr io.Writer) *local {
	l := &local{options: opts, stdin: stdin, stdout: stdout, stderr: stderr, notes: &console{out: stdout, silence: 1500 * time.Millisecond},
		timerInterval: 10 * time.Second, taskTime: time.Second}
	if opts.keep {
		l.taskTime = 3 * time.Second
	}
	if opts.json {
		l.notes.out = stderr
	}
	if !isTerminal(l.notes.out) {
		l.notes.silence = 15 * time.Second
	}
	return l
}

// say prints a line for a person.
func (l *local) say(format string, args ...any) {
	if !l.json {
		l.notes.say(format, args...)
	}
}

func (l *local) print(value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		_, err = fmt.Fprintf(l.stdout, "%s\n", text)
	}
	return err
}

func (l *local) run(ctx context.Context) (ok bool, err error) {
	payload, err := l.readPayload()
	if err != nil {
		return false, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go l.notes.watch(watching)

	// Other people's clients may do more than the function's role.
	start := harness.NewCloud
	if l.keep {
		start = func() (*harness.Cloud, error) { return harness.NewCloudWithPolicy(nil) }
	}
	cloud, err := start()
	if err != nil {
		return false, err
	}
	defer cloud.Close()
	if l.log {
		cloud.Log = func(line string) { l.notes.say("  log: %s", line) }
	}
	settings := harness.Discovery()
	switch {
	case l.events == 0:
		fillPlan(cloud.DBS)
		fillOtherPlan(cloud.DBS)
		letTasksEnd(cloud, l.taskTime)
	case l.discover:
		settings["BACKUP_PLAN_IDS"] = "all"
	default:
		settings = nil
	}
	if l.keep && l.json {
		// At once: a client need not wait until the function is built.
		if err := l.print(addressOf(cloud)); err != nil {
			return false, err
		}
	}
	instance, end, err := l.start(ctx, cloud, settings)
	if err != nil {
		return false, l.orInterrupted(ctx, err)
	}
	defer end()

	switch {
	case l.keep && l.json:
		ok = true
	case l.breaks != "":
		ok, err = l.breakOne(ctx, cloud, instance)
	case l.payload != "":
		ok, err = l.deliver(ctx, cloud, payload)
	case l.events > 0:
		ok, err = l.generate(ctx, cloud, instance)
	default:
		ok, err = l.samples(ctx, cloud)
	}
	if ctx.Err() != nil || err != nil {
		return false, l.orInterrupted(ctx, err)
	}
	if l.keep {
		err = l.goOn(ctx, cloud, settings != nil)
	}
	return ok, err
}

func (l *local) orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// start builds the executable and starts it; end ends it and removes its folder.
func (l *local) start(
	ctx context.Context, cloud *harness.Cloud, settings map[string]string,
) (instance *harness.Instance, end func(), err error) {
	l.notes.say("Building the function ...")
	done := l.notes.during(func() string {
		return "still building: the first time, Go compiles every dependency, which takes minutes"
	})
	defer done()
	folder, err := os.MkdirTemp("", "increment-backup-download-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { _ = os.RemoveAll(folder) }
	executable, err := harness.Build(ctx, folder, "./bootstrap")
	if err == nil {
		instance, err = cloud.StartInstance(executable, settings)
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return instance, func() { instance.Stop(); remove() }, nil
}
