package handler

import (
	"context"

	"increment-backup-download/events"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/discovery"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

// Ports are the services that a [Handler] works with.
type Ports struct {
	Tasks       TaskCreator
	Lists       discovery.Lister
	Check       check.DBS
	Results     Queue // takes the results
	DeadLetters Queue // takes original bodies that can never succeed
	States      follow.TaskReader
	Source      Queue // takes announcements and follow-ups; an untyped nil if there is none
}

// Task is a DBS backup set download task.
type Task struct {
	ID        string // BackupSetDownloadTaskId, never empty
	RequestID string // the RequestId of the answer
}

// TaskCreator creates download tasks: the operation
// CreateIncrementBackupSetDownload of DBS.
type TaskCreator interface {
	// CreateTask may be called again for the same request, and by many goroutines
	// at once. The same ClientToken with the same parameters must return the ID of
	// the same task. It must make one attempt, return soon after ctx ends, and
	// classify its failures as *cloud.Error; any other error is transient. A nil
	// error means that the task exists.
	CreateTask(ctx context.Context, request events.Request) (Task, error)
}

// Queue is a queue of MNS.
type Queue interface {
	outbox.Queue
	check.Queue
}
