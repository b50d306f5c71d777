package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

func announcement() events.Announcement {
	return events.Announcement{
		Region: "cn-hangzhou", AccountID: "1234567890123456", BackupPlanID: "dbsqdss5tmh0001",
		BackupSetJobID: "1hv5g9wk0001", BackupSetID: "mysql-bin.000058",
		Time: time.Date(2026, 11, 24, 9, 0, 0, 123e6, time.UTC),
		Item: json.RawMessage(`{"BackupSetJobId":"1hv5g9wk0001", "BackupSetId":"mysql-bin.000058","BackupStatus":"COMPLETED",
			"EndTime":1648434713000,"Unknown":"<&>"}`),
	}
}

func TestAnnouncement_IsACloudEvent(t *testing.T) {
	assert.JSONEq(t, `{"specversion":"1.0","id":"1hv5g9wk0001/mysql-bin.000058",`+
		`"source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001","type":"dbs:IncrementBackupSet:Completed",`+
		`"subject":"mysql-bin.000058","time":"2026-11-24T09:00:00.123Z","datacontenttype":"application/json",`+
		`"data":{"BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000058","BackupStatus":"COMPLETED",`+
		`"EndTime":1648434713000,"Unknown":"<&>"}}`, announcement().Encode())
}

func TestAnnouncement_OfAFailedDownloadHasAnotherID(t *testing.T) {
	a := announcement()
	a.FailedTaskID = "urxgrxt70001"
	assert.Equal(t, "1hv5g9wk0001/mysql-bin.000058#urxgrxt70001", a.ID())
	assert.Contains(t, a.Encode(), `"id":"1hv5g9wk0001/mysql-bin.000058#urxgrxt70001"`)
}

func TestAnnouncement_IsReadAsABackupEvent(t *testing.T) {
	for name, change := range map[string]func(*events.Announcement){
		"usual": func(*events.Announcement) {},
		"an item larger than a message": func(a *events.Announcement) {
			a.Item = json.RawMessage(`{"Other":"` + strings.Repeat("x", 64<<10) + `"}`)
		},
		"the longest names, to be escaped": func(a *events.Announcement) {
			a.BackupSetJobID, a.BackupSetID = strings.Repeat("\u2028", 1024), strings.Repeat("\uffff", 1024)
			a.Item = itemOf(a.BackupSetJobID, a.BackupSetID)
		},
		"bytes that are no text": func(a *events.Announcement) {
			a.BackupSetID = "mysql\ufffdbin"
			a.Item = json.RawMessage("{\"BackupSetJobId\":\"1hv5g9wk0001\",\"BackupSetId\":\"mysql\xffbin\",\"BackupStatus\":\"COMPLETED\"}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := announcement()
			change(&a)
			body := a.Encode()
			assert.LessOrEqual(t, len(body), 64<<10)
			assert.True(t, utf8.ValidString(body))
			assert.NotContains(t, body, "\uffff", "XML cannot carry it")

			event := decodeBody(t, body)
			assert.Equal(t, a.ID(), event.ID)
			assert.Equal(t, a.BackupSetJobID, event.Request.BackupSetID)
			assert.Equal(t, a.BackupSetID, event.Request.BackupSetName)
		})
	}
}

// DBS may give members that it does not document. None may keep the set from its
// task, or give the task another token.
func TestAnnouncement_AnItemThatIsReadAsAnotherEventIsCutDown(t *testing.T) {
	for name, item := range map[string]string{
		"a number as ID":    `{"BackupSetJobId":1,"BackupSetId":"2","BackupStatus":"COMPLETED"}`,
		"a token":           `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","ClientToken":"T"}`,
		"a name":            `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","BackupSetName":"3"}`,
		"an unknown format": `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","BackupSetDataFormat":"XML"}`,
		"a dry run":         `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","DryRun":true}`,
		"an event inside":   `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","specversion":"1.0","id":"I"}`,
		"a message inside":  `{"BackupSetJobId":"1","BackupSetId":"2","BackupStatus":"COMPLETED","messageBody":"{}"}`,
		"broken text":       "{\"BackupSetJobId\":\"1\",\"BackupSetId\":\"\xff\xfe\",\"BackupStatus\":\"COMPLETED\"}",
		"none":              ``,
	} {
		t.Run(name, func(t *testing.T) {
			a := announcement()
			a.BackupSetJobID, a.BackupSetID, a.Item = "1", "2", []byte(item)
			event := decodeBody(t, a.Encode())
			assert.Equal(t, "1/2", event.ID)
			assert.Equal(t, events.Request{BackupSetID: "1", BackupSetName: "2", ClientToken: "1/2"}, event.Request)
		})
	}
}

// What a person types without an ID must make the task that the timer would make.
func TestAnnouncement_HasTheTokenOfASetTypedWithoutAnID(t *testing.T) {
	for name, setID := range map[string]string{
		"usual":     "mysql-bin.000058",
		"too long":  strings.Repeat("x", 100),
		"not ASCII": "备份.000058",
	} {
		t.Run(name, func(t *testing.T) {
			a := announcement()
			a.BackupSetID = setID
			a.Item = itemOf(a.BackupSetJobID, setID)
			parameters, err := json.Marshal(map[string]string{"BackupSetId": a.BackupSetJobID, "BackupSetName": setID})
			require.NoError(t, err)

			announced := decodeBody(t, a.Encode()).Request
			assert.Equal(t, announced, decodeBody(t, string(a.Item)).Request)
			assert.Equal(t, announced, decodeBody(t, string(parameters)).Request)
		})
	}
}

func itemOf(jobID, setID string) json.RawMessage {
	item, _ := json.Marshal(map[string]string{"BackupSetJobId": jobID, "BackupSetId": setID, "BackupStatus": "COMPLETED"})
	return item
}

func decodeBody(t *testing.T, payload string) events.Event {
	t.Helper()
	var found []events.Event
	for event, err := range (events.Decoder{}).Decode([]byte(payload)) {
		require.NoError(t, err)
		found = append(found, event)
	}
	require.Len(t, found, 1)
	return found[0]
}
