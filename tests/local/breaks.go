package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/fcruntime"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// breakage is something that an operator has to repair.
type breakage struct {
	name             string
	broken, repaired string // what was done to it
	breaks, repairs  func(*harness.Cloud)
	guide            string // text that finds the row of docs/operations.md to read
}

// The breakages without a fault of a service.
const (
	poison  = "poison"
	stopped = "stopped"
)

// breakages are what -break can break, by name.
func breakages() map[string]*breakage {
	revoke := func(actions ...string) (breaks, repairs func(*harness.Cloud)) {
		return func(c *harness.Cloud) {
				for _, action := range actions {
					c.Policy.Revoke(action)
				}
			}, func(c *harness.Cloud) {
				for _, action := range actions {
					c.Policy.Restore(action)
				}
			}
	}
	fault := func(f standin.Fault) func(*harness.Cloud) {
		return func(c *harness.Cloud) {
			c.Timeout = 3 * time.Second // not five minutes, to see the end of it
			c.DBSFaults.SetPlan(standin.Always(f))
		}
	}
	noFault := func(c *harness.Cloud) {
		c.Timeout = 0
		c.DBSFaults.SetPlan(nil)
	}
	all := map[string]*breakage{
		"dbs-permission": {
			broken:   "the function's role may no longer call dbs:CreateIncrementBackupSetDownload",
			repaired: "the role's policy allows dbs:CreateIncrementBackupSetDownload again",
			guide:    "Request.Forbidden",
		},
		"mns-permission": {
			broken:   "the function's role may no longer send messages to its queues",
			repaired: "the role's policy allows mns:SendMessage and mns:BatchSendMessage again",
			guide:    "AccessDenied",
		},
		"queue": {
			broken:   "somebody has deleted queue " + harness.ResultQueue,
			repaired: "queue " + harness.ResultQueue + " is there again",
			breaks:   func(c *harness.Cloud) { c.MNS.RemoveQueue(harness.ResultQueue) },
			repairs:  func(c *harness.Cloud) { c.MNS.AddQueue(harness.ResultQueue, mns.Defaults()) },
			guide:    "QueueNotExist",
		},
		"throttle": {
			broken:   "DBS throttles every call, as if another user of the account had taken all its quota",
			repaired: "the other user is done, and DBS answers again",
			breaks:   fault(standin.Fault{Kind: standin.Throttle, Delay: 200 * time.Millisecond}),
			repairs:  noFault,
			guide:    "Throttling",
		},
		"hang": {
			broken:   "DBS takes every call and answers none",
			repaired: "DBS answers again",
			breaks:   fault(standin.Fault{Kind: standin.Hang}),
			repairs:  noFault,
			guide:    "`Timeout`",
		},
		poison: {
			broken:   "one of the messages is not a backup event",
			repaired: "the message was corrected and sent to " + harness.SourceQueue + " again",
			guide:    "`TaskFailed` with `Event.",
		},
		stopped: {
			broken: "DBS stops the download task of " + stoppedSet,
			guide:  "`task stopped`",
		},
	}
	all["dbs-permission"].breaks, all["dbs-permission"].repairs = revoke("dbs:CreateIncrementBackupSetDownload")
	for name, b := range all {
		b.name = name
	}
	all["mns-permission"].breaks, all["mns-permission"].repairs = revoke("mns:SendMessage", "mns:BatchSendMessage")
	return all
}

// brokenEvents is how many events meet what is broken, in one batch.
const brokenEvents = 20

// repairAfter is how many deliveries fail before the repair.
const repairAfter = 2

// breakOne breaks one thing and shows, in this order, what the operator sees, the row
// of the guide, the repair, and the recovery.
func (l *local) breakOne(ctx context.Context, cloud *harness.Cloud, instance *harness.Instance) (bool, error) {
	b := breakages()[l.breaks]
	row, err := guideRow(b.guide)
	if err != nil {
		return false, err
	}
	l.say("\nBROKEN: %s.", b.broken)
	if b.name == stopped {
		return l.breakTask(ctx, cloud, instance, row)
	}
	for i := range brokenEvents {
		body := harness.ListItem(otherJob, fmt.Sprintf("mysql-bin.%06d", i+1))
		if b.name == poison && i == 0 {
			body = "copy of mysql-bin.000001 is ready"
		}
		if _, err := cloud.MNS.Put(harness.SourceQueue, body); err != nil {
			return false, err
		}
	}
	if b.breaks != nil {
		b.breaks(cloud)
	}
	l.say("%d backup events are in queue %s.", brokenEvents, harness.SourceQueue)
	t, done := l.deliverBroken(cloud, instance, b, row)
	defer done()
	_, failed, err := t.Drain(ctx)
	if err != nil {
		return false, err
	}
	if b.name == poison {
		if err := l.cure(ctx, cloud, t, b); err != nil {
			return false, err
		}
	}
	return l.recovered(cloud, b.name == poison, failed), nil
}

// deliverBroken returns the trigger that delivers the events, shows what the operator
// sees of the first delivery, and repairs what is broken.
func (l *local) deliverBroken(
	cloud *harness.Cloud, instance *harness.Instance, b *breakage, row string,
) (t *trigger.Trigger, done func()) {
	var state atomic.Value
	state.Store("")
	done = l.notes.during(func() string { text, _ := state.Load().(string); return text })
	t = cloud.Trigger(100)
	t.FirstWait = time.Second
	made := 0
	t.Deliver = func(ctx context.Context, payload []byte) error {
		state.Store("the function works on the batch, and retries until its time is up")
		made++
		answer, err := cloud.Invoke(ctx, payload)
		if answer.Error == nil && err != nil {
			return err
		}
		if made > 1 {
			l.say("  Delivery %d %s.", made, verdict(err))
			return err
		}
		if seen := l.sees(ctx, instance, answer, err); seen != nil {
			return seen
		}
		l.say("%s", row)
		return err
	}
	t.Delivered = func(d trigger.Delivery) {
		if d.Err == nil {
			return
		}
		if d.Attempt == 1 {
			l.say("\nWHAT HAPPENS MEANWHILE\n  Nothing is lost: the %s stay in queue %s and come again,\n"+
				"  first after %.0f s, then after twice as long each time.",
				count(len(d.Messages), "message"), harness.SourceQueue, d.Wait.Seconds())
		}
		state.Store("the trigger waits before it delivers the batch again")
		if d.Attempt == repairAfter {
			b.repairs(cloud)
			l.say("\nREPAIRED: %s.\n\nWHAT HAPPENS THEN", b.repaired)
		}
	}
	return t, done
}

func verdict(err error) string {
	if err != nil {
		return "fails in the same way"
	}
	return "succeeds"
}

// sees prints what the operator sees of one invocation: the error, and each kind of
// line of ERROR and WARN in the log.
func (l *local) sees(ctx context.Context, instance *harness.Instance, answer fcruntime.Answer, err error) error {
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	log, waitErr := instance.LogOf(within, answer)
	if waitErr != nil {
		return waitErr
	}
	l.say("\nWHAT YOU SEE")
	cause := ""
	if err != nil {
		cause = err.Error()
		l.say("  The invocation fails:\n%s", wrap(shorten(cause, 400), "    "))
	} else {
		counts, _, _ := strings.Cut(string(answer.Payload), `,"results"`)
		l.say("  The invocation succeeds:\n%s", wrap(strings.ReplaceAll(counts, ",", ", ")+", …}", "    "))
	}
	var kinds []string
	times := make(map[string]int)
	for line := range strings.Lines(log) {
		var read struct{ Level, Msg, ErrCode, Error string }
		if json.Unmarshal([]byte(line), &read) != nil || read.Level != "ERROR" && read.Level != "WARN" {
			continue
		}
		kind := read.Level + " " + read.Msg
		if read.ErrCode != "" && !strings.Contains(cause, read.ErrCode) {
			kind += ", " + read.ErrCode
		}
		if cause == "" && read.Error != "" {
			kind += ": " + read.Error
		}
		if times[kind] == 0 {
			kinds = append(kinds, kind)
		}
		times[kind]++
	}
	if len(kinds) > 0 {
		l.say("  In the log:")
	}
	for _, kind := range kinds {
		l.say("%s", wrap(fmt.Sprintf("%s (%s)", shorten(kind, 200), count(times[kind], "line")), "    "))
	}
	return nil
}

// wrap breaks a text into lines of at most 96 characters, which begin with an indent.
func wrap(text, indent string) string {
	var lines []string
	line := indent
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > 90 {
			lines, line, word = append(lines, line), indent+word[:80], word[80:]
		}
		switch {
		case line == indent:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 96:
			lines, line = append(lines, line), indent+word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// cure sends what was dead-lettered again, corrected.
func (l *local) cure(ctx context.Context, cloud *harness.Cloud, t *trigger.Trigger, b *breakage) error {
	dead := cloud.MNS.Receive(harness.DeadLetterQueue, 16)
	if len(dead) != 1 {
		return fmt.Errorf("%d dead letters", len(dead))
	}
	l.say("\nWHAT HAPPENS MEANWHILE\n  The other events are done. In the dead-letter queue: %q", dead[0].Body)
	// The body itself would fail again: what is sent is what its producer meant.
	if _, err := cloud.MNS.Put(harness.SourceQueue, harness.ListItem(otherJob, "mysql-bin.000001")); err != nil {
		return err
	}
	cloud.MNS.Delete(harness.DeadLetterQueue, dead[0].ReceiptHandle)
	l.say("\nREPAIRED: %s.\n\nWHAT HAPPENS THEN", b.repaired)
	_, _, err := t.Drain(ctx)
	return err
}

// breakTask shows a download task that stops: the function reports it, and RetryFailed
// makes another.
func (l *local) breakTask(
	ctx context.Context, cloud *harness.Cloud, instance *harness.Instance, row string,
) (bool, error) {
	defer l.notes.during(func() string { return "waiting for the task to end" })()
	if _, err := cloud.MNS.Put(harness.SourceQueue, harness.ListItem(otherJob, stoppedSet)); err != nil {
		return false, err
	}
	t := cloud.Trigger(100)
	seen := false
	t.Deliver = func(ctx context.Context, payload []byte) error {
		answer, err := cloud.Invoke(ctx, payload)
		if err != nil || seen || !strings.Contains(string(answer.Payload), `"stopped":1`) {
			return err
		}
		seen = true
		return l.sees(ctx, instance, answer, nil)
	}
	if _, _, err := t.DrainDelayed(ctx); err != nil {
		return false, err
	}
	l.say("%s", row)
	l.say("\nWHAT HAPPENS MEANWHILE\n  DBS still has the backup set. No file comes of this task.")
	if _, err := cloud.Invoke(ctx, []byte(retryStopped)); err != nil {
		return false, err
	}
	l.say("\nREPAIRED: this was typed as a test event:\n  %s\n\nWHAT HAPPENS THEN", retryStopped)
	if _, _, err := t.DrainDelayed(ctx); err != nil {
		return false, err
	}
	results, err := cloud.Results()
	if err != nil {
		return false, err
	}
	for _, r := range results {
		if ended[r.Type] == outcomeFinished && r.Data.BackupSetName == stoppedSet {
			l.say("  The set is announced again, under an ID of its own, and gets another task.")
			l.say("\nRECOVERED: task %s of %s has finished.", r.Data.TaskID, stoppedSet)
			return seen, nil
		}
	}
	l.say("NOT RECOVERED: no task of %s has finished.", stoppedSet)
	return false, nil
}

// retryStopped asks for another task of the set whose task stopped.
const retryStopped = `{"Discover":{"BackupPlanIds":["` + otherPlan + `"],
   "BackupSetIds":["` + stoppedSet + `"],"RetryFailed":true}}`

// recovered says how it ended, and whether that is as it should.
func (l *local) recovered(cloud *harness.Cloud, poisoned bool, failed int) bool {
	tasks := make(map[string]bool)
	for _, task := range cloud.DBS.Tasks() {
		tasks[task.BackupSetName] = true
	}
	results, err := cloud.Results()
	created := make(map[string]bool)
	for _, r := range results {
		if r.Data.TaskID != "" {
			created[r.ID] = true
		}
	}
	ok := err == nil && len(tasks) == brokenEvents && len(cloud.DBS.Tasks()) == brokenEvents &&
		len(created) == brokenEvents && (poisoned || failed == repairAfter)
	if !ok {
		l.say("NOT RECOVERED: %d tasks, %d results, %d failed deliveries.", len(tasks), len(created), failed)
		return false
	}
	before := count(failed, "delivery")
	if poisoned {
		before = "one message"
	}
	l.say("\nRECOVERED: %d backup sets, %d tasks, each with its result; %s failed before the repair.",
		len(tasks), len(cloud.DBS.Tasks()), before)
	return true
}

// link is a link of the guide, which is of no use in a terminal.
var link = regexp.MustCompile(`\[([^]]+)\]\((\S+)\)`)

// guideRow returns the first row of the guide's tables whose first cell has a code,
// with each cell under its heading.
func guideRow(code string) (string, error) {
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		return "", err
	}
	var head []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		switch {
		case len(cells) < 3:
			head = nil
		case head == nil:
			head = cells
		case strings.Contains(cells[1], code):
			row := []string{"\nTHE GUIDE, docs/operations.md"}
			for i := 1; i < len(cells)-1; i++ {
				if cell := link.ReplaceAllString(strings.TrimSpace(cells[i]), "$1 ($2)"); cell != "" {
					row = append(row, wrap(strings.TrimSpace(head[i])+": "+cell, "  "))
				}
			}
			return strings.Join(row, "\n"), nil
		}
	}
	return "", fmt.Errorf("docs/operations.md has no row for %s", code)
}
