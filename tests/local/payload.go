package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"increment-backup-download/tests/harness"
)

// readPayload reads the payload that -payload names, if any.
func (l *local) readPayload() (payload []byte, err error) {
	switch l.payload {
	case "":
		return nil, nil
	case "-":
		payload, err = io.ReadAll(l.stdin)
	default:
		payload, err = os.ReadFile(l.payload) //nolint:gosec // G703: who runs this names the file
	}
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	return payload, nil
}

// answer is what the local run reads of the function's answer.
type answer struct {
	Events      *int
	Created     int
	Failed      int
	Ignored     int
	AlreadyDone int
	Results     []entry
	DryRun      json.RawMessage // the request that would be sent; of a discovery run, whether it was dry
	Plans       []struct{ Announced int }
	Checks      checks
	OK          *bool // of checks: none has failed
}

// checks are what a typed check answers.
type checks []struct{ Result string }

// verdict counts the results of the checks.
func (c checks) verdict() string {
	results := make(map[string]int)
	for _, one := range c {
		results[one.Result]++
	}
	var parts []string
	for _, result := range slices.Sorted(maps.Keys(results)) {
		parts = append(parts, fmt.Sprintf("%d %s", results[result], result))
	}
	return count(len(c), "check") + " = " + strings.Join(parts, " + ")
}

type entry struct {
	Outcome                 string // created, failed, ignored, alreadyDone
	EventID                 string `json:"EventId"`
	ClientToken             string
	BackupSetName           string
	BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId"`
	ErrCode                 string
}

// rows are the entries of an answer. An event that failed was dead-lettered, unless it
// was typed by hand or discovered.
func (a answer) rows(cloud *harness.Cloud, deadLettered bool) []row {
	outcomes := map[string]string{"created": outcomeCreated, "failed": outcomeFailed, "ignored": outcomeIgnored,
		"alreadyDone": outcomeRepeated, "finished": outcomeFinished, "stopped": outcomeStopped,
		"unfinished": outcomeUnfinished}
	if deadLettered {
		outcomes["failed"] = outcomeDead
	}
	shown := make([]row, len(a.Results))
	for i, e := range a.Results {
		r := row{Element: i + 1, EventID: e.EventID, BackupSetName: e.BackupSetName, Outcome: outcomes[e.Outcome],
			TaskID: e.BackupSetDownloadTaskID, ErrCode: e.ErrCode}
		if r.Outcome == outcomeRepeated && r.TaskID == "" && r.ErrCode != "" {
			r.Outcome = outcomes["failed"]
		}
		if e.ClientToken != "" {
			_, r.Attempts = cloud.DBS.Calls(e.ClientToken)
		}
		shown[i] = r
	}
	return shown
}

// deliver invokes the function with a payload, as the console's test does.
func (l *local) deliver(ctx context.Context, cloud *harness.Cloud, payload []byte) (bool, error) {
	defer l.notes.during(func() string { return "waiting for the function" })()
	l.say("Invoking the function with %s ...\n", count(len(payload), "byte"))
	done, err := cloud.Invoke(ctx, payload)
	if err != nil && done.Error == nil {
		return false, err
	}
	if err != nil {
		doc := document{Error: err.Error()}
		l.say("The invocation failed with %s:\n%s\n", done.Error.Type, wrap(done.Error.Message, "  "))
		if err := l.show(cloud, doc); err != nil {
			return false, err
		}
		l.say("Verdict: the function refused the payload, or could not finish it; the error above says why.")
		return false, nil
	}
	l.say("The function answered in %d ms:\n%s\n", done.Took.Milliseconds(), indent(done.Payload))
	var a answer
	if err := json.Unmarshal(done.Payload, &a); err != nil {
		return false, err
	}
	announced := 0
	for _, plan := range a.Plans {
		announced += plan.Announced
	}
	if announced > 0 && string(a.DryRun) != "true" {
		l.say("Delivering %s from queue %s ...", count(announced, "announcement"), harness.SourceQueue)
	}
	waiting := len(cloud.MNS.Messages(harness.SourceQueue)) // announcements, or tasks to follow
	if waiting > 0 {
		if _, _, err := cloud.Trigger(100).DrainDelayed(ctx); err != nil {
			return false, err
		}
	}
	dead := len(cloud.MNS.Messages(harness.DeadLetterQueue)) > 0
	ok := a.Failed == 0 && (a.OK == nil || *a.OK)
	doc := document{OK: ok, Answer: done.Payload, Events: a.rows(cloud, dead)}
	if waiting > 0 {
		found, err := rows(cloud)
		if err != nil {
			return false, err
		}
		if a.Plans == nil {
			follow(doc.Events, found)
		} else {
			doc.Events = slices.SortedFunc(maps.Values(found), func(a, b row) int {
				return strings.Compare(a.EventID, b.EventID)
			})
		}
	}
	if err := l.show(cloud, doc); err != nil {
		return false, err
	}
	switch {
	case a.Checks != nil:
		l.say("Verdict: %s.", a.Checks.verdict())
	case a.Plans != nil && string(a.DryRun) == "true":
		l.say("Verdict: a dry run; %s of %s would be announced.", count(announced, "set"), count(len(a.Plans), "plan"))
	case a.Plans != nil:
		l.say("Verdict: %s of %s announced.", count(announced, "set"), count(len(a.Plans), "plan"))
	case a.DryRun != nil:
		l.say("Verdict: a dry run; nothing was called.")
	case a.Events != nil:
		l.say("Verdict: %s = %d created + %d failed + %d ignored + %d already done.", count(*a.Events, "event"),
			a.Created, a.Failed, a.Ignored, a.AlreadyDone)
	default:
		l.say("Verdict: the function answered.")
	}
	return doc.OK, nil
}

// follow puts the ends of tasks into the rows of an answer.
func follow(shown []row, found map[string]row) {
	for i := range shown {
		for _, r := range found {
			if shown[i].Outcome == outcomeCreated && r.TaskID == shown[i].TaskID {
				shown[i].Outcome = r.Outcome
			}
		}
	}
}

func indent(text []byte) string {
	var pretty bytes.Buffer
	if json.Indent(&pretty, text, "  ", "  ") != nil {
		return string(text)
	}
	return "  " + pretty.String()
}
