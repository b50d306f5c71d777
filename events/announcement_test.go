package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

func announcement() events.Announcement {
	return events.Announcement{
		Region: "cn-hangzhou", AccountID: "1234567890123456", BackupPlanID: "dbsqdss5tmh0001",
		Time: time.Date(2026, 11, 24, 9, 0, 0, 123e6, time.UTC),
		Set: events.AnnouncedSet{
			BackupSetJobID: "1hv5g9wk0001", BackupSetID: "mysql-bin.000058", BackupStatus: "COMPLETED",
			StartTime: 1648431113000, EndTime: 1648434713000, BackupSetExpiredTime: 1711506719000,
			BackupSize: 1073742336, StorageMethod: "Standard",
		},
	}
}

func TestAnnouncement_IsACloudEvent(t *testing.T) {
	envelope := `{"specversion":"1.0","id":"1hv5g9wk0001/mysql-bin.000058@1648431113000",` +
		`"source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001","type":"dbs:IncrementBackupSet:Completed",` +
		`"subject":"mysql-bin.000058","time":"2026-11-24T09:00:00.123Z","datacontenttype":"application/json","data":`
	a := announcement()
	assert.JSONEq(t, envelope+`{"BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000058","BackupStatus":"COMPLETED",`+
		`"StartTime":1648431113000,"EndTime":1648434713000,"BackupSetExpiredTime":1711506719000,`+
		`"BackupSize":1073742336,"StorageMethod":"Standard"}}`, a.Encode())

	envelope = strings.Replace(envelope, "@1648431113000", "", 1)
	a.Set = events.AnnouncedSet{BackupSetJobID: "1hv5g9wk0001", BackupSetID: "mysql-bin.000058", BackupStatus: "COMPLETED"}
	assert.JSONEq(t, envelope+`{"BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000058","BackupStatus":"COMPLETED"}}`,
		a.Encode(), "what DBS does not give is left out")
}

func TestAnnouncement_OfAFailedDownloadHasAnotherID(t *testing.T) {
	a := announcement()
	a.FailedTaskID = "urxgrxt70001"
	assert.Equal(t, "1hv5g9wk0001/mysql-bin.000058@1648431113000#urxgrxt70001", a.ID())
	assert.Contains(t, a.Encode(), `"id":"1hv5g9wk0001/mysql-bin.000058@1648431113000#urxgrxt70001"`)
}

func TestAnnouncement_IsReadAsABackupEvent(t *testing.T) {
	for name, change := range map[string]func(*events.Announcement){
		"usual": func(*events.Announcement) {},
		"as little as DBS may give": func(a *events.Announcement) {
			a.Set = events.AnnouncedSet{BackupSetJobID: "1hv5g9wk0001", BackupSetID: "mysql-bin.000058", BackupStatus: "COMPLETED"}
		},
		"the longest names, to be escaped": func(a *events.Announcement) {
			a.Set.BackupSetJobID, a.Set.BackupSetID = strings.Repeat("\x01", 1024), strings.Repeat("\uffff", 1024)
			a.FailedTaskID = strings.Repeat("x", events.MaxAnswerID)
			a.Set.StorageMethod = strings.Repeat("x", 65_536)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := announcement()
			change(&a)
			body := a.Encode()
			assert.LessOrEqual(t, len(body), 65_536)
			assert.False(t, strings.ContainsFunc(body, notInXML))

			require.NoError(t, valid(t, schema(t, "announcement.schema.json"), body))
			require.NoError(t, valid(t, schema(t, "backup-event.schema.json"), body))

			event := decodeBody(t, body)
			assert.Equal(t, a.ID(), event.ID)
			assert.True(t, event.Announced)
			assert.Equal(t, a.Set.BackupSetJobID, event.Request.BackupSetID)
			assert.Equal(t, a.Set.BackupSetID, event.Request.BackupSetName)
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
			a.Set.BackupSetID = setID
			for _, startTime := range []int64{a.Set.StartTime, 0} {
				a.Set.StartTime = startTime
				item, err := json.Marshal(a.Set)
				require.NoError(t, err)
				parameters, err := json.Marshal(map[string]any{
					"BackupSetId": a.Set.BackupSetJobID, "BackupSetName": setID, "StartTime": startTime})
				require.NoError(t, err)

				announced := decodeBody(t, a.Encode()).Request
				assert.Equal(t, announced, decodeBody(t, string(item)).Request)
				assert.Equal(t, announced, decodeBody(t, string(parameters)).Request)
			}
		})
	}
}

func decodeBody(t *testing.T, payload string) events.Event {
	t.Helper()
	all := decode(t, []byte(payload))
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	return all[0].event
}
