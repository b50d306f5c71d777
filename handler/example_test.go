package handler_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/outbox"
)

// printingQueue accepts every message.
type printingQueue struct {
	inspected
	name string
}

func (q printingQueue) Send(_ context.Context, messages []outbox.Message) []error {
	for _, body := range bodiesOf(messages) {
		var result events.Result
		if json.Unmarshal([]byte(body), &result) == nil {
			fmt.Println(q.name, result.ID, result.Type, cmp.Or(result.Data.BackupSetDownloadTaskID, result.Data.ErrCode))
			continue
		}
		fmt.Println(q.name, body)
	}
	return make([]error, len(messages))
}

// A payload with two messages: one announces a backup set, the other can never
// succeed.
func ExampleHandler_Handle() {
	h := handler.New(
		handler.Config{Concurrency: 1, Source: events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "increment-backup-download"}},
		handler.Ports{Tasks: newFakeDBS(), Results: printingQueue{name: "result:"}, DeadLetters: printingQueue{name: "dead letter:"}},
		discard,
	)
	summary, err := h.Handle(context.Background(), "request-1", []byte(`[
		{"messageId":"1","messageBody":"{\"BackupSetId\":\"t4yh0g0g0001\",\"BackupSetName\":\"mysql-bin.000054\"}"},
		{"messageId":"2","messageBody":"message from mns console"}]`))
	fmt.Println(summary.Events, summary.Created, summary.Failed, err)
	// Output:
	// dead letter: message from mns console
	// result: 1 dbs:IncrementBackupSetDownload:TaskCreated task-1
	// result: 2 dbs:IncrementBackupSetDownload:TaskFailed Event.Malformed
	// 2 1 1 <nil>
}
