package events_test

import (
	"fmt"

	"increment-backup-download/events"
)

// A queue's trigger delivers an array of messages; each is an event or an error.
func ExampleDecoder_Decode() {
	payload := []byte(`[
	  {"messageId":"1","messageBody":"{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000054\",\"BackupStatus\":\"COMPLETED\"}"},
	  {"messageId":"2","messageBody":"{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000055\",\"BackupStatus\":\"FILLING\"}"},
	  {"messageId":"3","messageBody":"{\"backupSetId\":\"t4yh0g0g0001\"}"}
	]`)
	for event, err := range (events.Decoder{}).Decode(payload) {
		switch request := event.Request; {
		case err != nil:
			fmt.Printf("message %s: %v\n", event.MessageID, err)
		case event.Ignored():
			fmt.Printf("message %s: %s is %s\n", event.MessageID, request.BackupSetName, event.BackupStatus)
		default:
			fmt.Printf("message %s: download %s of %s, token %s\n",
				event.MessageID, request.BackupSetName, request.BackupSetID, request.ClientToken)
		}
	}
	// Output:
	// message 1: download mysql-bin.000054 of t4yh0g0g0001, token 1
	// message 2: mysql-bin.000055 is FILLING
	// message 3: Event.MissingBackupSet: names are case-sensitive: BackupSetId, not backupSetId. A backup set needs BackupSetJobId and BackupSetId, as DescribeIncrementBackupList lists it, or BackupSetId and BackupSetName, as CreateIncrementBackupSetDownload takes it
}
