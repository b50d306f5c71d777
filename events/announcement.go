package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// TypeBackupSetCompleted is the CloudEvents type of an announcement.
const TypeBackupSetCompleted = "dbs:IncrementBackupSet:Completed"

// maxMessage is what a message of MNS holds at most. See
// https://www.alibabacloud.com/help/en/mns/product-overview/limits.
const maxMessage = 64 << 10

// Announcement says that an incremental backup set is finished. It is what
// discovery puts into the source queue, and a backup event like any other.
type Announcement struct {
	Region, AccountID string
	BackupPlanID      string
	BackupSetJobID    string // with BackupSetID at most 1,024 characters each
	BackupSetID       string
	FailedTaskID      string          // of the newest download that failed, to try again; else empty
	Time              time.Time       // when it is announced
	Item              json.RawMessage // of DescribeIncrementBackupList, as DBS gave it; nil if it was not kept
}

// ID returns the event ID of the announcement, from which its ClientToken is made:
// the same for ever for one backup set, so that a set announced twice is still one
// task. A download that failed needs another token, since DBS would answer the
// old one with the task that failed.
func (a Announcement) ID() string {
	id := a.BackupSetJobID + "/" + a.BackupSetID
	if a.FailedTaskID != "" {
		id += "#" + a.FailedTaskID
	}
	return id
}

// Source returns the CloudEvents source: the backup plan, in the form of a
// resource name of Alibaba Cloud.
func (a Announcement) Source() string {
	return fmt.Sprintf("acs:dbs:%s:%s:backupplan/%s", a.Region, a.AccountID, a.BackupPlanID)
}

// Encode returns the message body: a CloudEvent in structured JSON mode. It fits a
// message of MNS and announces this set, if need be with an item cut down to what a
// backup event needs: DBS may give a member that means something else in an event,
// such as a ClientToken, or an ID that is a number.
func (a Announcement) Encode() string {
	if body := a.encode(a.Item); len(a.Item) > 0 && len(body) <= maxMessage && a.isReadFrom(body) {
		return body
	}
	item, _ := json.Marshal(map[string]string{ // strings always marshal
		"BackupSetJobId": a.BackupSetJobID, "BackupSetId": a.BackupSetID, "BackupStatus": StatusCompleted})
	return a.encode(item)
}

// isReadFrom reports whether a message body is read as the event that is meant.
func (a Announcement) isReadFrom(body string) bool {
	for event, err := range (Decoder{}).Decode([]byte(body)) {
		request := event.Request
		return err == nil && event.ID == a.ID() && !event.DryRun && !event.Ignored() &&
			request.BackupSetID == a.BackupSetJobID && request.BackupSetName == a.BackupSetID &&
			request.ClientToken == clientToken(Event{ID: a.ID()})
	}
	return false
}

func (a Announcement) encode(item json.RawMessage) string {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	// Strings and an item that is valid JSON always marshal.
	_ = encoder.Encode(struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Subject         string          `json:"subject"`
		Time            string          `json:"time"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
	}{
		SpecVersion:     "1.0",
		ID:              a.ID(),
		Source:          a.Source(),
		Type:            TypeBackupSetCompleted,
		Subject:         a.BackupSetID,
		Time:            a.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		DataContentType: "application/json",
		Data:            bytes.ToValidUTF8(item, []byte("\ufffd")),
	})
	text := bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
	// XML, in which a queue message travels, cannot carry these two.
	text = bytes.ReplaceAll(text, []byte("\ufffe"), []byte(`\ufffe`))
	text = bytes.ReplaceAll(text, []byte("\uffff"), []byte(`\uffff`))
	return string(text)
}
