package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"increment-backup-download/events"
)

// created returns the TaskCreated result of an announcement.
func created() events.Result {
	event := events.Event{
		ID: "t4yh0g0g0001/mysql-bin.000058@1669161600000", Announced: true, BackupPlanID: "dbsqdss5tmh0001", Traceparent: parent,
		Request: events.Request{BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000058", BackupSetDataFormat: "Native",
			ClientToken: "t4yh0g0g0001/mysql-bin.000058@1669161600000"},
	}
	data := events.NewResultData(event)
	data.BackupSetDownloadTaskID = "1jydacm0001"
	data.RequestID = "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"
	return events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, data)
}

// inQueue returns an event stream with one queue message.
func inQueue(t testing.TB, body string) []byte {
	t.Helper()
	payload, err := json.Marshal([]any{map[string]any{
		"specversion": "1.0", "id": "62BF1E5C3031365E5C2D1F7A", "source": "acs:mns", "type": "mns:Queue:SendMessage",
		"time": "2026-11-23T09:05:00Z", "traceparent": strings.Replace(parent, "4bf9", "aaaa", 1),
		"data": map[string]any{"messageId": "EF755211AE83630D7FD1052A357D5573", "messageBody": body},
	}})
	require.NoError(t, err)
	return payload
}

func TestFollowUp_IsReadAsItWasSent(t *testing.T) {
	sent := events.NewFollowUp(created())
	assert.Equal(t, "1jydacm0001", sent.TaskID)
	assert.True(t, at.Truncate(time.Millisecond).Equal(sent.Created), sent.Created)
	assert.JSONEq(t, string(readFile(t, "follow-up", "follow-up.json")), sent.Encode())
	require.NoError(t, valid(t, schema(t, "follow-up.schema.json"), sent.Encode()))

	all := decode(t, inQueue(t, sent.Encode()))
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	event := all[0].event
	assert.Equal(t, &sent, event.FollowUp)
	assert.Equal(t, sent.Encode(), event.FollowUp.Encode(), "the same for as long as the task runs")
	assert.Equal(t, sent.Encode(), event.Body)
	assert.Empty(t, event.Request)
	assert.Equal(t, created().Data, events.NewResultData(event))
	assert.False(t, event.ByHand)
	assert.False(t, event.Announced)

	untraced := sent
	untraced.Result.Traceparent = ""
	all = decode(t, inQueue(t, untraced.Encode()))
	require.Nil(t, all[0].err)
	assert.Equal(t, &untraced, all[0].event.FollowUp, "the trace of the envelope is another each time")
}

func TestFollowUp_EndsInAResult(t *testing.T) {
	followUp := events.NewFollowUp(created())
	end := at.Add(10 * time.Minute)
	finished := followUp.Result.Data
	finished.BackupSetDownloadStatus, finished.BackupSetDataSize, finished.BackupSetDownloadFinishTime = "finish", 1073742336, 1795424700000
	stopped := followUp.Result.Data
	stopped.BackupSetDownloadStatus, stopped.ErrMessage = "stop", "the agent is <offline>"
	unfinished := followUp.Result.Data
	unfinished.BackupSetDownloadStatus = "running"
	for file, result := range map[string]events.Result{
		"task-finished.json":   followUp.End(events.TypeTaskFinished, end, finished),
		"task-stopped.json":    followUp.End(events.TypeTaskStopped, end, stopped),
		"task-unfinished.json": followUp.End(events.TypeTaskUnfinished, end, unfinished),
	} {
		t.Run(file, func(t *testing.T) {
			text := events.EncodingRaw.Encode(result)
			assert.JSONEq(t, string(readFile(t, "result", file)), text)
			assert.NoError(t, valid(t, schema(t, "result.schema.json"), text))
		})
	}
}

func TestFollowUp_IsAMessageOfTheQueueOnly(t *testing.T) {
	body := events.NewFollowUp(created()).Encode()
	quoted, err := json.Marshal(body)
	require.NoError(t, err)
	for name, payload := range map[string]string{
		"by itself":   body,
		"quoted":      string(quoted),
		"in an array": "[" + body + "]",
		"as data":     `{"specversion":"1.0","id":"1","data":` + body + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(payload))
			require.Len(t, all, 1)
			require.NotNil(t, all[0].err)
			assert.Equal(t, events.CodeMalformed, all[0].err.Code)
			assert.Contains(t, all[0].err.Message, "cannot be typed")
			assert.True(t, all[0].event.ByHand)
			assert.Nil(t, all[0].event.FollowUp)
		})
	}
}

func TestFollowUp_NeedsWhatNamesTheTask(t *testing.T) {
	for name, replace := range map[string][2]string{
		"no id":           {`"id":"t4yh`, `"ID":"t4yh`},
		"id null":         {`"id":"t4yh0g0g0001/mysql-bin.000058@1669161600000"`, `"id":null`},
		"id empty":        {`"id":"t4yh0g0g0001/mysql-bin.000058@1669161600000"`, `"id":""`},
		"no source":       {`"source":`, `"Source":`},
		"source empty":    {`"source":"`, `"source":"","was":"`},
		"source a number": {`"source":"`, `"source":1,"was":"`},
		"source null":     {`"source":"`, `"source":null,"was":"`},
		"source forbids":  {`"source":"`, `"source":"\u0001`},
		"no time":         {`"time":`, `"Time":`},
		"time is no time": {`"time":"`, `"time":"T`},
		"no data":         {`"data":`, `"Data":`},
		"data null":       {`"data":{`, `"data":null,"was":{`},
		"data text":       {`"data":{`, `"data":"x","was":{`},
		"no task ID":      {`"BackupSetDownloadTaskId"`, `"TaskId"`},
		"task ID empty":   {`"1jydacm0001"`, `""`},
		"task ID null":    {`"1jydacm0001"`, `null`},
		"task ID number":  {`"1jydacm0001"`, `1`},
		"task ID long":    {`"1jydacm0001"`, `"` + strings.Repeat("x", 129) + `"`},
		"name a number":   {`"BackupSetName":"`, `"BackupSetName":1,"was":"`},
	} {
		t.Run(name, func(t *testing.T) {
			body := events.NewFollowUp(created()).Encode()
			broken := strings.Replace(body, replace[0], replace[1], 1)
			require.NotEqual(t, body, broken)
			require.Error(t, valid(t, schema(t, "follow-up.schema.json"), broken))
			all := decode(t, inQueue(t, broken))
			require.NotNil(t, all[0].err)
			assert.Equal(t, events.CodeBadFollowUp, all[0].err.Code)
			assert.Equal(t, broken, all[0].event.Body, "for the dead-letter queue")
			assert.Nil(t, all[0].event.FollowUp)
			assert.False(t, all[0].event.ByHand)
		})
	}
}

// Whoever can send to the source queue can forge a follow-up. It must fit a message
// when it is sent on, and so must its end, which says nothing that DBS did not say.
func TestFollowUp_IsBoundedWhateverIsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anything := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			strings.Repeat("\x01", 5_000), strings.Repeat("\u2028", 5_000), "\ufffe\uffff", "中",
		}))
		data := map[string]any{"BackupSetDownloadTaskId": "1jydacm0001", "BackupSetDataSize": 7, "BackupSetDownloadFinishTime": 7, "HttpStatusCode": 7}
		for _, name := range []string{"EventId", "ClientToken", "BackupPlanId", "BackupSetId", "BackupSetName", "BackupSetDataFormat",
			"BackupSetDownloadStatus", "ErrCode", "ErrMessage", "RequestId"} {
			data[name] = anything.Draw(t, name)
		}
		body, _ := json.Marshal(map[string]any{"specversion": "1.0", "id": "x" + anything.Draw(t, "id"), "type": events.TypeFollowUp,
			"source": "s" + strings.Repeat("中", rapid.IntRange(0, 5_000).Draw(t, "source")), "time": "2026-11-23T09:00:00Z",
			"traceparent": parent, "tracestate": strings.Repeat(`"`, 512), "data": data})
		payload, _ := json.Marshal(map[string]string{"messageId": "1", "messageBody": string(body)})
		for event, err := range (events.Decoder{}).Decode(payload) {
			if err != nil {
				t.Fatal(err)
			}
			d := event.FollowUp.Result.Data
			if d.BackupSetDownloadStatus+d.ErrCode+d.ErrMessage != "" || d.BackupSetDataSize+d.BackupSetDownloadFinishTime+int64(d.HTTPStatusCode) != 0 {
				t.Fatalf("a forged end: %+v", d)
			}
			for _, text := range []string{event.FollowUp.Result.Source, d.EventID, d.BackupSetID, d.BackupSetName} {
				if n := utf8.RuneCountInString(text); n > 1024 {
					t.Fatalf("a text of %d characters", n)
				}
			}
			if n := len(event.FollowUp.Encode()); n > 65_536 {
				t.Fatalf("a follow-up of %d bytes", n)
			}
			d.BackupSetDownloadStatus, d.ErrCode, d.ErrMessage = anything.Draw(t, "status"), anything.Draw(t, "code"), anything.Draw(t, "message")
			end := event.FollowUp.End(events.TypeTaskStopped, at, d)
			if n := len(events.EncodingBase64.Encode(end)); n > 65_536 {
				t.Fatalf("a result of %d bytes", n)
			}
		}
	})
}
