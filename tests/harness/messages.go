package harness

import (
	"encoding/json"
	"fmt"
	"strings"
)

// sampleJob is the BackupSetJobId of the events that are put into the source queue.
const sampleJob = "t4yh0g0g0001"

// ListItem returns a message body: a finished backup set as
// DescribeIncrementBackupList lists it.
func ListItem(jobID, name string) string {
	return fmt.Sprintf(`{"BackupSetJobId":%q,"BackupSetId":%q,"BackupStatus":"COMPLETED","StorageMethod":"Standard"}`,
		jobID, name)
}

// Batch returns an event stream payload of n list items: event-0, which is about
// mysql-bin.000000, and so on.
func Batch(n int) string {
	return BatchOf("event-", n, func(i int) string { return ListItem(sampleJob, fmt.Sprintf("mysql-bin.%06d", i)) })
}

// BatchOf returns an event stream payload of n message bodies. The IDs of event and
// message are the prefix and the number.
func BatchOf(prefix string, n int, body func(int) string) string {
	elements := make([]string, n)
	for i := range elements {
		id := fmt.Sprintf("%s%d", prefix, i)
		quoted, err := json.Marshal(body(i))
		if err != nil {
			panic(err) // text never fails
		}
		elements[i] = fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"acs:mns","type":"mns:Queue:SendMessage",`+
			`"data":{"messageId":%q,"messageBody":%s}}`, id, id, quoted)
	}
	return "[" + strings.Join(elements, ",") + "]"
}
