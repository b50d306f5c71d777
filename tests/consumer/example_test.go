// Package consumer_test shows the consumer's side: how to read the result queue.
package consumer_test

import (
	"cmp"
	"encoding/json"
	"fmt"

	mns "github.com/aliyun/aliyun-mns-go-sdk"

	"increment-backup-download/tests/standin"
	standinmns "increment-backup-download/tests/standin/mns"
)

// result is what a consumer needs of a message in the result queue; the whole is
// in events/schema/result.schema.json.
type result struct {
	Source string `json:"source"`
	ID     string `json:"id"`
	Type   string `json:"type"`
	Data   struct {
		BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId"`
		ErrCode                 string
	} `json:"data"`
}

// Delivery is at-least-once: a consumer drops repeats by (source, id, type), and
// deletes a message only when it is done with it. The type is part of it because a
// success may follow the failure of the same event, under the same id.
//
// The Go and Node SDKs hand a body over as it is. Those for Java, Python and PHP
// decode base64 by default: set RESULT_ENCODING to base64 for them, or switch
// their decoding off.
func Example() {
	queue := resultQueue() // mns.NewMNSQueue(name, client) with the real endpoint
	type key struct{ source, id, typ string }
	seen := make(map[key]bool) // keep it where it outlives the process
	for {
		received, failed := make(chan mns.MessageReceiveResponse, 1), make(chan error, 1)
		queue.ReceiveMessage(received, failed)
		select {
		case message := <-received:
			var r result
			if err := json.Unmarshal([]byte(message.MessageBody), &r); err != nil {
				fmt.Println("not a result:", err)
				continue // it turns up again when its visibility timeout ends
			}
			if k := (key{r.Source, r.ID, r.Type}); !seen[k] {
				seen[k] = true
				fmt.Println(r.ID, r.Type, cmp.Or(r.Data.BackupSetDownloadTaskID, r.Data.ErrCode))
			}
			if err := queue.DeleteMessage(message.ReceiptHandle); err != nil {
				fmt.Println("it will come again:", err)
			}
		case err := <-failed:
			if mns.ERR_MNS_MESSAGE_NOT_EXIST.IsEqual(err) {
				return // the queue is empty
			}
			fmt.Println(err)
			return
		}
	}
	// Output:
	// 1 dbs:IncrementBackupSetDownload:TaskCreated 1jydacm0001
	// 2 dbs:IncrementBackupSetDownload:TaskFailed Param.NotFound
	// 2 dbs:IncrementBackupSetDownload:TaskCreated 1jydacm0002
}

// resultQueue is a queue on a stand-in, with a result and its repeat, and a failure that a success follows.
func resultQueue() mns.AliMNSQueue {
	key := standin.NewKey()
	service := standinmns.New(standin.NewKeys(key), nil, "results")
	server, err := standin.Start(service)
	if err != nil {
		panic(err)
	}
	const made = `{"specversion":"1.0","source":"acs:fc:cn-hangzhou:1:functions/f","id":%q,` +
		`"type":"dbs:IncrementBackupSetDownload:%s","data":%s}`
	created := fmt.Sprintf(made, "1", "TaskCreated",
		`{"BackupSetName":"mysql-bin.000054","BackupSetDownloadTaskId":"1jydacm0001"}`)
	failed := fmt.Sprintf(made, "2", "TaskFailed", `{"ErrCode":"Param.NotFound"}`)
	later := fmt.Sprintf(made, "2", "TaskCreated",
		`{"BackupSetName":"mysql-bin.000055","BackupSetDownloadTaskId":"1jydacm0002"}`)
	for _, body := range []string{created, created, failed, later, failed} {
		if _, err := service.Put("results", body); err != nil {
			panic(err)
		}
	}
	return mns.NewMNSQueue("results", mns.NewAliMNSClientWithConfig(mns.AliMNSClientConfig{
		EndPoint: standinmns.Endpoint(server.URL), AccessKeyId: key.ID, AccessKeySecret: key.Secret, Token: key.Token,
	}))
}
