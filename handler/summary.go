package handler

import "increment-backup-download/events"

// Summary is what the invocation answers: what became of the events of its
// payload. The other counts add up to Events unless events are open or it was a
// dry run.
type Summary struct {
	Events      int `json:"events"`      // messages in the payload
	Created     int `json:"created"`     // a task created and its result published
	Failed      int `json:"failed"`      // dead-lettered, and the failure published
	Ignored     int `json:"ignored"`     // backup sets that are not complete
	Finished    int `json:"finished"`    // follow-ups of a task whose file can be fetched
	Stopped     int `json:"stopped"`     // follow-ups of a task that gives no file, or has not in a week
	Pending     int `json:"pending"`     // follow-ups of a task that goes on
	AlreadyDone int `json:"alreadyDone"` // repeats of an event that is done, in this batch or in an earlier one

	// Results has the first hundred events, in the order of the payload, without
	// the open ones.
	Results []Entry `json:"results,omitempty"`
	// DryRun says what would be done; nothing was.
	DryRun *DryRun `json:"dryRun,omitempty"`
}

// Entry is what became of one event.
type Entry struct {
	Outcome string `json:"outcome"` // created, failed, ignored, finished, stopped, unfinished, pending or alreadyDone
	events.ResultData
	BackupStatus string `json:"BackupStatus,omitempty"` // why it was ignored

	index int
}

// maxEntries bounds the entries of a summary.
const maxEntries = 100

// DryRun is the request that would be sent, and where to.
type DryRun struct {
	Action string `json:"Action"`
	events.Request
	Targets
}
