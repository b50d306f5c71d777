package events_test

import (
	"fmt"
	"strings"
	"testing"

	"increment-backup-download/events"
)

// batch is an event stream of n messages as the trigger delivers them, one
// announcement of a finished backup set in each.
func batch(n int) []byte {
	var s strings.Builder
	for i := range n {
		separator := ","
		if i == 0 {
			separator = "["
		}
		fmt.Fprintf(&s, `%s{"data":{"requestId":"62BF1E5C3031365E5C2D1F7A","messageId":"EF755211AE83630D7FD1052A%08X",`+
			`"messageBody":"{\"specversion\":\"1.0\",\"id\":\"t4yh0g0g0001/mysql-bin.%06d\",`+
			`\"source\":\"acs:dbs:cn-hangzhou:1026000000000000:backupplan/dbsqdss5tmh0001\",`+
			`\"type\":\"dbs:IncrementBackupSet:Completed\",\"subject\":\"mysql-bin.%06d\",`+
			`\"data\":{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.%06d\",\"BackupStatus\":\"COMPLETED\",`+
			`\"BackupSize\":1073742336,\"StartTime\":1669161600000,\"EndTime\":1669165200000,\"BackupSetExpiredTime\":1700697600000,`+
			`\"StorageMethod\":\"Standard\",\"SourceEndpointIpPort\":\"rm-bp1000000000000.mysql.rds.aliyuncs.com:3306\"}}"},`+
			`"id":"EF755211AE83630D7FD1052A%08X","source":"acs:mns","specversion":"1.0","type":"mns:Queue:SendMessage",`+
			`"datacontenttype":"application/json; charset=utf-8","time":"2026-11-23T09:00:00.123Z",`+
			`"subject":"acs:mns:cn-hangzhou:1026000000000000:queues/backup-events","aliyunaccountid":"1026000000000000"}`,
			separator, i, i, i, i, i)
	}
	s.WriteByte(']')
	return []byte(s.String())
}

func BenchmarkDecoder(b *testing.B) {
	const messages = 500
	payload := batch(messages)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range (events.Decoder{}).Decode(payload) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != messages {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/event")
}

// The bytes a run are what one large message costs beside the payload.
func BenchmarkDecoder_OneLargeMessage(b *testing.B) {
	payload := []byte(`[{"messageId":"1","messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\",\"x\":\"` +
		strings.Repeat("y", 30<<20) + `\"}"}]`)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range (events.Decoder{}).Decode(payload) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkResult(b *testing.B) {
	event := events.Event{ID: "t4yh0g0g0001/mysql-bin.000054", Request: events.Request{
		BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", ClientToken: "t4yh0g0g0001/mysql-bin.000054",
	}}
	b.ReportAllocs()
	for b.Loop() {
		data := events.NewResultData(event)
		data.BackupSetDownloadTaskID = "1jydacm0001"
		data.RequestID = "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"
		if events.EncodingRaw.Encode(events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, data)) == "" {
			b.Fatal("nothing encoded")
		}
	}
}
