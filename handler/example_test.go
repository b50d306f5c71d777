package handler_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

// printingQueue accepts every message.
type printingQueue string

func (q printingQueue) Send(_ context.Context, bodies []string) []error {
	for _, body := range bodies {
		var result events.Result
		if json.Unmarshal([]byte(body), &result) == nil {
			fmt.Println(q, result.ID, result.Type, cmp.Or(result.Data.BackupSetDownloadTaskID, result.Data.ErrCode))
			continue
		}
		fmt.Println(q, body)
	}
	return make([]error, len(bodies))
}

// A payload with two messages: one announces a backup set, the other can never
// succeed.
func ExampleHandler_Handle() {
	h := handler.New(
		handler.Config{Concurrency: 1, Source: events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "increment-backup-download"}},
		handler.Ports{Tasks: newFakeDBS(), Results: printingQueue("result:"), DeadLetters: printingQueue("dead letter:")},
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
