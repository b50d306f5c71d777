package main

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/mns"
)

// Outcomes of an event, as the tables and the JSON document write them.
const (
	outcomeCreated    = "task created"
	outcomeFinished   = "task finished"
	outcomeStopped    = "task stopped"
	outcomeUnfinished = "unfinished" // after a week
	outcomeRepeated   = "repeated"
	outcomeIgnored    = "ignored"
	outcomeDead       = "dead-lettered"
	outcomeFailed     = "failed"
	outcomeLost       = "LOST"
)

// ended are the outcomes of tasks, by the type of the result that says so.
var ended = map[string]string{
	"dbs:IncrementBackupSetDownload:TaskFinished":   outcomeFinished,
	"dbs:IncrementBackupSetDownload:TaskStopped":    outcomeStopped,
	"dbs:IncrementBackupSetDownload:TaskUnfinished": outcomeUnfinished,
}

// eventKey is an event ID without the StartTime that ends the ID of an announcement,
// after an @.
func eventKey(id string) string {
	key, _, _ := strings.Cut(id, "@")
	return key
}

// row is what became of one event.
type row struct {
	Element       int    `json:"element,omitempty"` // of the payload that was typed, from 1
	EventID       string `json:"eventId,omitempty"`
	BackupSetName string `json:"backupSetName,omitempty"`
	About         string `json:"about,omitempty"`
	Outcome       string `json:"outcome"`
	TaskID        string `json:"taskId,omitempty"`
	ErrCode       string `json:"errCode,omitempty"`
	Attempts      int    `json:"attempts"` // calls to create its task
}

// reason is the task, or why there is none.
func (r row) reason() string { return cmp.Or(r.TaskID, r.ErrCode) }

// document is what -json prints.
type document struct {
	OK          bool              `json:"ok"`
	Discovered  []setRow          `json:"discovered,omitempty"`
	Events      []row             `json:"events,omitempty"`
	Answer      json.RawMessage   `json:"answer,omitempty"`
	Error       string            `json:"error,omitempty"`
	Report      *harness.Report   `json:"report,omitempty"`
	Results     []json.RawMessage `json:"results,omitempty"`
	DeadLetters []string          `json:"deadLetters,omitempty"`
}

// brief shortens an ID for a table.
func brief(id string) string {
	if len(id) <= 20 {
		return id
	}
	return id[:8] + "…" + id[len(id)-8:]
}

// rows reads what became of the events from the result queue, by event key. The end
// of a task follows its creation in the queue.
func rows(cloud *harness.Cloud) (map[string]row, error) {
	results, err := cloud.Results()
	if err != nil {
		return nil, err
	}
	dead := len(cloud.MNS.Messages(harness.DeadLetterQueue)) > 0
	found := make(map[string]row)
	for _, r := range results {
		outcome, calls := outcomeCreated, 0
		switch {
		case r.IsEnd():
			outcome = ended[r.Type]
		case r.Data.TaskID != "":
		case dead:
			outcome = outcomeDead
		default:
			outcome = outcomeFailed // what is typed by hand or discovered is not dead-lettered
		}
		if r.Data.ClientToken != "" {
			_, calls = cloud.DBS.Calls(r.Data.ClientToken)
		}
		found[eventKey(r.ID)] = row{EventID: r.ID, BackupSetName: r.Data.BackupSetName, Outcome: outcome,
			TaskID: r.Data.TaskID, ErrCode: r.Data.ErrCode, Attempts: calls}
	}
	return found, nil
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
		t := l.table("element", "event id", "sample", "backup set", "outcome", "task or reason")
		for _, r := range doc.Events {
			var element any = ""
			if r.Element > 0 {
				element = r.Element
			}
			t.AppendRow(table.Row{element, brief(r.EventID), r.About, r.BackupSetName, r.Outcome, r.reason()})
		}
		t.SuppressEmptyColumns()
		t.Render()
	}
	l.queue("Result queue "+harness.ResultQueue, results)
	l.queue("Dead-letter queue "+harness.DeadLetterQueue, dead)
	return nil
}

func (l *local) queue(name string, messages []mns.Message) {
	hint := ""
	if len(messages) > 0 && !l.verbose {
		hint = "; -v shows them"
	}
	l.say("%s: %s%s", name, count(len(messages), "message"), hint)
	if l.verbose {
		for _, m := range messages {
			l.say("  %s", m.Body)
		}
	}
}

func (l *local) table(columns ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(l.notes)
	t.SetStyle(table.StyleRounded)
	t.AppendHeader(columns)
	return t
}
