// Command local runs the function on this machine, without a cloud account: it
// starts stand-ins for Function Compute, DBS and MNS on loopback, builds the real
// executable, puts backup events into the source queue, lets the trigger stand-in
// deliver them, and shows what became of each.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/mns"
)

const usage = `Run the function on this machine, without a cloud account.

Without flags it delivers eight sample events through stand-ins for Function
Compute, DBS and MNS, and shows each event, its task ID, and the messages in the
result queue and the dead-letter queue.

Usage:
  go run ./tests/local [flags]

Flags:
  -payload FILE  deliver this file, as it is, like a console test; - is standard input
  -events N      deliver N generated events in batches of 100
  -faults RATE   with -events: this share (0 to 0.5) of the calls to DBS and MNS goes
                 wrong, the process is killed now and then, and a third of the events
                 are repeated, malformed or refused
  -seed N        with -faults: replay this seed (default: a new one)
  -json          print one JSON document instead of tables
  -keep          keep the stand-ins running until interrupted, and print their URLs and
                 test credentials; with -json nothing is delivered, and one line is
                 printed: {"mns":URL,"dbs":URL,"accessKeyId":…,…}
  -h             print this

Exit status: 0 if every event ended as it should, 1 if not, 2 for a wrong flag.
`

// Outcomes of an event, as the tables and the JSON document write them.
const (
	outcomeCreated  = "task created"
	outcomeRepeated = "repeat, same task"
	outcomeIgnored  = "ignored"
	outcomeDead     = "dead-lettered"
	outcomeFailed   = "failed"
	outcomeLost     = "LOST"
)

type options struct {
	payload string
	events  int
	faults  float64
	seed    uint64
	json    bool
	keep    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	ok, err := (&local{options: opts, stdin: stdin, stdout: stdout, stderr: stderr}).run(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "local: %v\n", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

func parse(arguments []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&opts.payload, "payload", "", "")
	flags.IntVar(&opts.events, "events", 0, "")
	flags.Float64Var(&opts.faults, "faults", 0, "")
	flags.Uint64Var(&opts.seed, "seed", 0, "")
	flags.BoolVar(&opts.json, "json", false, "")
	flags.BoolVar(&opts.keep, "keep", false, "")
	if err := flags.Parse(arguments); err != nil {
		return opts, err
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case given["events"] && (opts.events < 1 || opts.events > 1_000_000):
		return opts, fmt.Errorf("-events %d: give a number from 1 to 1000000", opts.events)
	case given["payload"] && opts.payload == "":
		return opts, errors.New("-payload: name a file, or - for standard input")
	case opts.keep && opts.json && (given["events"] || given["payload"]):
		return opts, errors.New("-keep -json delivers nothing: leave -events and -payload out")
	case given["events"] && given["payload"]:
		return opts, errors.New("-events and -payload exclude each other")
	case given["faults"] && (opts.faults < 0 || opts.faults > 0.5):
		return opts, fmt.Errorf("-faults %v: give a share from 0 to 0.5", opts.faults)
	case given["faults"] && !given["events"]:
		return opts, errors.New("-faults goes with -events")
	case given["seed"] && !given["faults"]:
		return opts, errors.New("-seed goes with -faults")
	}
	if !given["seed"] {
		opts.seed = uint64(time.Now().UnixNano())
	}
	return opts, nil
}

// local is one run.
type local struct {
	options
	stdin          io.Reader
	stdout, stderr io.Writer
}

// say prints a line for a person.
func (l *local) say(format string, args ...any) {
	if !l.json {
		_, _ = fmt.Fprintf(l.stdout, format+"\n", args...)
	}
}

func (l *local) run(ctx context.Context) (ok bool, err error) {
	var payload []byte
	switch l.payload {
	case "":
	case "-":
		payload, err = io.ReadAll(l.stdin)
	default:
		payload, err = os.ReadFile(l.payload)
	}
	if err != nil {
		return false, fmt.Errorf("reading the payload: %w", err)
	}

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
	if l.keep && l.json {
		return true, l.wait(ctx, cloud)
	}

	l.say("Building the function ...")
	folder, err := os.MkdirTemp("", "increment-backup-download-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	executable, err := harness.Build(ctx, folder, "./bootstrap")
	if err != nil {
		return false, err
	}
	instance, err := cloud.StartInstance(executable, nil)
	if err != nil {
		return false, err
	}
	defer instance.Stop()

	switch {
	case l.payload != "":
		ok, err = l.deliver(ctx, cloud, payload)
	case l.events > 0:
		ok, err = l.generate(ctx, cloud, instance)
	default:
		ok, err = l.samples(ctx, cloud)
	}
	if ctx.Err() != nil {
		return false, errors.New("interrupted")
	}
	if err == nil && l.keep {
		err = l.wait(ctx, cloud)
	}
	return ok, err
}

// row is what became of one event.
type row struct {
	EventID       string `json:"eventId"`
	BackupSetName string `json:"backupSetName,omitempty"`
	About         string `json:"about,omitempty"`
	Outcome       string `json:"outcome"`
	TaskID        string `json:"taskId,omitempty"`
	ErrCode       string `json:"errCode,omitempty"`
	Attempts      int    `json:"attempts"` // DBS calls
}

// document is what -json prints.
type document struct {
	OK          bool              `json:"ok"`
	Events      []row             `json:"events,omitempty"`
	Answer      json.RawMessage   `json:"answer,omitempty"`
	Error       string            `json:"error,omitempty"`
	Report      *harness.Report   `json:"report,omitempty"`
	Results     []json.RawMessage `json:"results,omitempty"`
	DeadLetters []string          `json:"deadLetters,omitempty"`
}

// samples delivers the sample events through the source queue.
func (l *local) samples(ctx context.Context, cloud *harness.Cloud) (bool, error) {
	ids := make([]string, len(samples))
	for i, sample := range samples {
		body, err := sampleFiles.ReadFile("samples/" + sample.file)
		if err != nil {
			return false, err
		}
		text := strings.TrimSuffix(string(body), "\n")
		message, err := cloud.MNS.Put(harness.SourceQueue, text)
		if err != nil {
			return false, err
		}
		ids[i] = message.ID
		var envelope struct{ ID string }
		if json.Unmarshal([]byte(text), &envelope) == nil && envelope.ID != "" {
			ids[i] = envelope.ID
		}
	}
	l.say("Delivering %d sample events from queue %s ...\n", len(samples), harness.SourceQueue)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, _, err := cloud.Trigger(100).Drain(ctx); err != nil {
		return false, err
	}

	rows, err := l.rows(cloud)
	if err != nil {
		return false, err
	}
	ok := true
	shown := make([]row, len(samples))
	seen := make(map[string]bool)
	for i, sample := range samples {
		r, found := rows[ids[i]]
		switch {
		case !found && sample.want == outcomeIgnored:
			r = row{EventID: ids[i], Outcome: outcomeIgnored}
		case !found:
			r = row{EventID: ids[i], Outcome: outcomeLost}
		case seen[ids[i]]:
			r.Outcome = outcomeRepeated
		}
		seen[ids[i]] = true
		r.About = sample.about
		shown[i] = r
		ok = ok && r.Outcome == sample.want
	}
	tasks := map[string]bool{}
	for _, task := range cloud.DBS.Tasks() {
		ok = ok && !tasks[task.ClientToken]
		tasks[task.ClientToken] = true
	}
	if err := l.show(cloud, document{OK: ok, Events: shown}); err != nil {
		return false, err
	}
	if ok {
		l.say("Every event ended as it should: %d tasks for %d events.", len(tasks), len(samples))
	} else {
		l.say("NOT every event ended as it should; the table shows what was wrong.")
	}
	return ok, nil
}

// deliver invokes the function with a payload, as the console's test does.
func (l *local) deliver(ctx context.Context, cloud *harness.Cloud, payload []byte) (bool, error) {
	l.say("Invoking the function with %d bytes ...\n", len(payload))
	answer, err := cloud.Invoke(ctx, payload)
	if err != nil && answer.Error == nil {
		return false, err
	}
	doc := document{OK: err == nil}
	if err != nil {
		doc.Error = err.Error()
		l.say("The invocation failed with %s:\n  %s\n", answer.Error.Type, answer.Error.Message)
	} else {
		doc.Answer = answer.Payload
		l.say("The function answered in %d ms:\n%s\n", answer.Took.Milliseconds(), indent(answer.Payload))
		var counts struct{ Failed int }
		if err := json.Unmarshal(answer.Payload, &counts); err != nil {
			return false, err
		}
		doc.OK = counts.Failed == 0
	}
	rows, err := l.rows(cloud)
	if err != nil {
		return false, err
	}
	for _, m := range cloud.MNS.Messages(harness.ResultQueue) {
		var r struct{ ID string }
		if json.Unmarshal([]byte(m.Body), &r) == nil {
			event := rows[r.ID]
			if event.Outcome == outcomeDead && len(cloud.MNS.Messages(harness.DeadLetterQueue)) == 0 {
				event.Outcome = outcomeFailed // what is typed by hand is not dead-lettered
			}
			doc.Events = append(doc.Events, event)
		}
	}
	return doc.OK, l.show(cloud, doc)
}

// generate runs a scenario of generated events.
func (l *local) generate(ctx context.Context, cloud *harness.Cloud, instance *harness.Instance) (bool, error) {
	scenario := harness.Scenario{Events: l.events, Seed: l.seed, FaultRate: l.faults, Mixed: l.faults > 0, Kills: l.faults > 0}
	if l.faults > 0 {
		cloud.Timeout = 3 * time.Second
		l.say("Delivering %d events; %.0f%% of all calls go wrong; seed %d ...", l.events, l.faults*100, l.seed)
	} else {
		l.say("Delivering %d events ...", l.events)
	}
	bar := progressbar.NewOptions(l.events, progressbar.OptionSetWriter(l.stderr), progressbar.OptionSetDescription("results"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
	scenario.Progress = func(p harness.Progress) { _ = bar.Set(p.Done) }
	report, err := scenario.Run(ctx, cloud, instance)
	_ = bar.Finish()
	if err != nil {
		return false, fmt.Errorf("%w\n%v", err, report)
	}
	ok := len(report.Violations) == 0
	if l.json {
		return ok, l.print(document{OK: ok, Report: &report})
	}
	t := l.table("events", "tasks", "dbs calls", "results", "repeats", "dead letters", "deliveries", "redeliveries", "kills", "faults", "seconds")
	t.AppendRow(table.Row{report.Events, report.Tasks, report.DBSCalls, report.Results, report.DuplicateResults, report.DeadLetters,
		report.Deliveries, report.FailedDeliveries, report.Kills, report.Faults, fmt.Sprintf("%.2f", report.Took.Seconds())})
	t.Render()
	if l.faults > 0 {
		if err := l.attempts(cloud); err != nil {
			return false, err
		}
		l.say("Replay with: go run ./tests/local -events %d -faults %v -seed %d", l.events, l.faults, l.seed)
	}
	for _, violation := range report.Violations {
		l.say("VIOLATION: %s", violation)
	}
	if ok {
		l.say("Every event ended as it should: none lost, no token with two tasks.")
	}
	return ok, nil
}

// attempts shows how many calls to DBS the events took, and which took the most.
func (l *local) attempts(cloud *harness.Cloud) error {
	rows, err := l.rows(cloud)
	if err != nil {
		return err
	}
	counts := make(map[int]int)
	highest := 0
	var events []row
	for _, r := range rows {
		if r.Attempts > 0 {
			counts[r.Attempts]++
			highest = max(highest, r.Attempts)
			events = append(events, r)
		}
	}
	t := l.table("attempts at dbs", "events")
	for n := 1; n <= highest; n++ {
		if counts[n] > 0 {
			t.AppendRow(table.Row{n, counts[n]})
		}
	}
	t.Render()

	slices.SortFunc(events, func(a, b row) int { return cmp.Or(b.Attempts-a.Attempts, strings.Compare(a.EventID, b.EventID)) })
	l.say("The events that took the most attempts:")
	t = l.table("event id", "backup set", "outcome", "task id or reason", "attempts")
	for _, r := range events[:min(len(events), 10)] {
		t.AppendRow(table.Row{r.EventID, r.BackupSetName, r.Outcome, cmp.Or(r.TaskID, r.ErrCode), r.Attempts})
	}
	t.Render()
	return nil
}

// rows reads what became of the events from the result queue, by event ID.
func (l *local) rows(cloud *harness.Cloud) (map[string]row, error) {
	results, err := cloud.Results()
	if err != nil {
		return nil, err
	}
	rows := make(map[string]row)
	for _, r := range results {
		_, calls := cloud.DBS.Calls(r.Data.ClientToken)
		if r.Data.ClientToken == "" {
			calls = 0
		}
		outcome := outcomeCreated
		if r.Data.TaskID == "" {
			outcome = outcomeDead
		}
		rows[r.ID] = row{EventID: r.ID, BackupSetName: r.Data.BackupSetName, Outcome: outcome, TaskID: r.Data.TaskID, ErrCode: r.Data.ErrCode, Attempts: calls}
	}
	return rows, nil
}

// show prints the events and the messages in the two queues.
func (l *local) show(cloud *harness.Cloud, doc document) error {
	results, dead := cloud.MNS.Messages(harness.ResultQueue), cloud.MNS.Messages(harness.DeadLetterQueue)
	if l.json {
		for _, m := range results {
			doc.Results = append(doc.Results, json.RawMessage(m.Body))
		}
		for _, m := range dead {
			doc.DeadLetters = append(doc.DeadLetters, m.Body)
		}
		return l.print(doc)
	}
	if len(doc.Events) > 0 {
		t := l.table("event id", "sample", "backup set", "outcome", "task id or reason")
		for _, r := range doc.Events {
			t.AppendRow(table.Row{r.EventID, r.About, r.BackupSetName, r.Outcome, cmp.Or(r.TaskID, r.ErrCode)})
		}
		t.SuppressEmptyColumns()
		t.Render()
	}
	l.queue("Result queue "+harness.ResultQueue, results)
	l.queue("Dead-letter queue "+harness.DeadLetterQueue, dead)
	l.say("")
	return nil
}

func (l *local) queue(name string, messages []mns.Message) {
	l.say("\n%s: %d messages", name, len(messages))
	for _, m := range messages {
		l.say("  %s", m.Body)
	}
}

func (l *local) table(columns ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(l.stdout)
	t.SetStyle(table.StyleRounded)
	t.AppendHeader(columns)
	return t
}

func (l *local) print(value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		_, err = fmt.Fprintf(l.stdout, "%s\n", text)
	}
	return err
}

// wait prints how to reach the stand-ins, and waits for an interrupt.
func (l *local) wait(ctx context.Context, cloud *harness.Cloud) error {
	if l.json {
		if err := l.print(struct {
			MNS             string `json:"mns"`
			DBS             string `json:"dbs"`
			AccessKeyID     string `json:"accessKeyId"`
			AccessKeySecret string `json:"accessKeySecret"`
			SecurityToken   string `json:"securityToken"`
		}{cloud.MNSServer.URL, cloud.DBSServer.URL, cloud.Key.ID, cloud.Key.Secret, cloud.Key.Token}); err != nil {
			return err
		}
	}
	l.say("\nThe stand-ins run until you press Ctrl-C:")
	l.say("  MNS                 %s", cloud.MNSServer.URL)
	l.say("  MNS for its Go SDK  %s", mns.Endpoint(cloud.MNSServer.URL))
	l.say("  DBS                 %s", cloud.DBSServer.URL)
	l.say("  AccessKeyId         %s", cloud.Key.ID)
	l.say("  AccessKeySecret     %s", cloud.Key.Secret)
	l.say("  SecurityToken       %s", cloud.Key.Token)
	l.say("They take any client; nothing more is delivered to the function.")
	<-ctx.Done()
	return nil
}

func indent(text []byte) string {
	var value any
	if json.Unmarshal(text, &value) != nil {
		return string(text)
	}
	pretty, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return string(text)
	}
	return "  " + string(pretty)
}
