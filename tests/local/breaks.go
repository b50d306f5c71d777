package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
	"increment-backup-download/tests/standin/trigger"
)

// breakage is something that an operator has to repair.
type breakage struct {
	broken, repaired string // what was done to it
	breaks, repairs  func(*harness.Cloud)
	guide            string // text that finds the row of docs/operations.md to read
}

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
		"poison": {
			broken:   "one of the messages is no backup event, and never will be",
			repaired: "the message was corrected and sent to " + harness.SourceQueue + " again",
			guide:    "`TaskFailed` with `Event.",
		},
	}
	all["dbs-permission"].breaks, all["dbs-permission"].repairs = revoke("dbs:CreateIncrementBackupSetDownload")
	all["mns-permission"].breaks, all["mns-permission"].repairs = revoke("mns:SendMessage", "mns:BatchSendMessage")
	return all
}

// brokenEvents is how many events meet what is broken, in one batch.
const brokenEvents = 20

// repairAfter is how many deliveries fail before the repair.
const repairAfter = 2

// breakOne breaks one thing, delivers events, repairs it, and shows the recovery.
func (l *local) breakOne(ctx context.Context, cloud *harness.Cloud, instance *harness.Instance) (bool, error) {
	b := breakages()[l.breaks]
	l.say("\nBROKEN: %s.", b.broken)
	poisoned := b.breaks == nil
	for i := range brokenEvents {
		body := harness.ListItem("t4yh0g0g0001", fmt.Sprintf("mysql-bin.%06d", i+1))
		if poisoned && i == 0 {
			body = "copy of mysql-bin.000001 is ready"
		}
		if _, err := cloud.MNS.Put(harness.SourceQueue, body); err != nil {
			return false, err
		}
	}
	if !poisoned {
		b.breaks(cloud)
	}
	l.say("%d backup events are in queue %s.\n", brokenEvents, harness.SourceQueue)
	t, done := l.deliverBroken(cloud, instance, b)
	defer done()
	_, failed, err := t.Drain(ctx)
	if err != nil {
		return false, err
	}
	if poisoned {
		if err := l.cure(ctx, cloud, t, b); err != nil {
			return false, err
		}
	}
	ok := l.recovered(cloud, poisoned, failed)
	row, err := guideRow(b.guide)
	if err != nil {
		return false, err
	}
	l.say("\nThe guide, docs/operations.md, has this row for it:\n  %s", row)
	return ok, nil
}

// deliverBroken returns the trigger that delivers the events, shows what the operator
// sees of each delivery, and repairs what is broken.
func (l *local) deliverBroken(
	cloud *harness.Cloud, instance *harness.Instance, b *breakage,
) (t *trigger.Trigger, done func()) {
	var mu sync.Mutex
	state := "" // guarded by mu
	says := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		state = text
	}
	done = l.notes.during(func() string {
		mu.Lock()
		defer mu.Unlock()
		return state
	})
	t = cloud.Trigger(100)
	t.FirstWait = time.Second
	seen := 0 // bytes of the log
	t.Deliver = func(ctx context.Context, payload []byte) error {
		says("the function works on the batch, and tries again what fails until its time is up")
		answer, err := cloud.Invoke(ctx, payload)
		if answer.Error != nil || err == nil {
			within, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			log, waitErr := instance.LogOf(within, answer)
			if waitErr != nil {
				return waitErr
			}
			l.sees(answer.Payload, err, log[seen:])
			seen = len(log)
		}
		return err
	}
	t.Delivered = func(d trigger.Delivery) {
		if d.Err == nil {
			return
		}
		l.say("  Nothing is lost: the %s stay in the queue, and come again in %.0f s.\n",
			count(len(d.Messages), "message"), d.Wait.Seconds())
		says("the trigger waits before it delivers the batch again")
		if d.Attempt == repairAfter {
			b.repairs(cloud)
			l.say("REPAIRED: %s.\n", b.repaired)
		}
	}
	return t, done
}

// sees prints what the operator sees of one invocation.
func (l *local) sees(answer []byte, err error, log string) {
	if err != nil {
		l.say("The invocation failed:\n  %v", err)
	} else {
		l.say("The invocation succeeded:\n  %s", shorten(string(answer), 160))
	}
	type line struct{ Level, Msg string }
	first, more := []string{}, map[string]int{}
	of := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(log))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var read line
		if json.Unmarshal(lines.Bytes(), &read) != nil || read.Level != "ERROR" && read.Level != "WARN" {
			continue
		}
		key := read.Level + read.Msg
		if of[key] == "" {
			of[key] = lines.Text()
			first = append(first, key)
		} else {
			more[key]++
		}
	}
	if len(first) > 0 {
		l.say("Its lines of ERROR and WARN in the log:")
	}
	for _, key := range first {
		l.say("  %s", of[key])
		if more[key] > 0 {
			l.say("  ... and %d more like it", more[key])
		}
	}
}

// cure sends what was dead-lettered again, corrected.
func (l *local) cure(ctx context.Context, cloud *harness.Cloud, t *trigger.Trigger, b *breakage) error {
	dead := cloud.MNS.Receive(harness.DeadLetterQueue, 16)
	for _, m := range dead {
		l.say("  The other events are done. In the dead-letter queue: %s\n", m.Body)
	}
	if len(dead) != 1 {
		return fmt.Errorf("%d dead letters", len(dead))
	}
	// The body itself would fail again: what is sent is what its producer meant.
	if _, err := cloud.MNS.Put(harness.SourceQueue, harness.ListItem("t4yh0g0g0001", "mysql-bin.000001")); err != nil {
		return err
	}
	cloud.MNS.Delete(harness.DeadLetterQueue, dead[0].ReceiptHandle)
	l.say("REPAIRED: %s.\n", b.repaired)
	_, _, err := t.Drain(ctx)
	return err
}

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

// guideRow returns the first row of the guide's tables whose first cell has a code,
// below the head of its table.
func guideRow(code string) (string, error) {
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		return "", err
	}
	head := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
			head = ""
		case head == "":
			head = line
		case strings.Contains(cells[1], code):
			return head + "\n  " + line, nil
		}
	}
	return "", fmt.Errorf("docs/operations.md has no row for %s", code)
}
