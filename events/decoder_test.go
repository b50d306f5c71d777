package events_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

type decoded struct {
	event events.Event
	err   *events.Error
}

func decode(t testing.TB, payload []byte) []decoded {
	t.Helper()
	var all []decoded
	for event, err := range (events.Decoder{}).Decode(payload) {
		got := decoded{event: event}
		if err != nil {
			require.ErrorAs(t, err, &got.err)
		}
		all = append(all, got)
	}
	return all
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	require.NoError(t, err)
	return content
}

func request(n int, token string) events.Request {
	return events.Request{BackupSetID: "t4yh0g0g0001", BackupSetName: fmt.Sprintf("mysql-bin.%06d", n), ClientToken: token}
}

func native(n int, token string) events.Request {
	r := request(n, token)
	r.BackupSetDataFormat = "Native"
	return r
}

const (
	firstID  = "EF755211AE83630D7FD1052A357D556F"
	secondID = "EF755211AE83630D7FD1052A357D5570"
	ruleID   = "b0f2d6c1-7a34-4d2e-9d10-53d3a4d1c001"
	setToken = "t4yh0g0g0001/mysql-bin.000054@1669161600000" // of the set that the samples announce
)

func TestDecoder_ReadsEveryShape(t *testing.T) {
	const (
		modeID  = "EB0A77CA8076444C35259077119C0001"
		topicID = "2F5B3C281B283D4EAC694B7425288675"
		batchID = "EF755211AE83630D7FD1052A357D5571"
		lastID  = "EF755211AE83630D7FD1052A357D5572"
	)
	trigger := time.Date(2022, 7, 1, 16, 4, 12, 286e6, time.UTC) // as the sample says
	type want struct {
		ids       []string
		requests  []events.Request
		sent      []time.Time
		byHand    bool
		dryRun    bool
		announced bool
	}
	streamed := want{ids: []string{firstID, secondID}, requests: []events.Request{request(54, firstID), native(55, secondID)},
		sent: []time.Time{trigger, trigger}}
	inStrings := streamed
	inStrings.sent = []time.Time{trigger, trigger.Add(-86 * time.Millisecond)}
	raw := streamed
	raw.sent = nil
	typed := want{ids: []string{""}, requests: []events.Request{request(54, setToken)}, byHand: true}
	for file, want := range map[string]want{
		"event-streaming.json":         streamed,
		"event-streaming-strings.json": inStrings,
		"raw-data.json":                raw,
		"raw-data-single.json":         {ids: []string{firstID}, requests: []events.Request{request(54, firstID)}},
		"event-mode.json": {ids: []string{modeID}, requests: []events.Request{request(54, modeID)},
			sent: []time.Time{time.Date(2022, 7, 28, 17, 15, 22, 396e6, time.UTC)}},
		"topic-json.json": {ids: []string{topicID}, requests: []events.Request{request(54, topicID)},
			sent: []time.Time{time.UnixMilli(1550216480040).UTC()}},
		"topic-stream.json":            typed,
		"topic-stream-attributes.json": {ids: []string{""}, requests: []events.Request{request(54, setToken)}},
		"eventbridge-function.json": {ids: []string{ruleID}, requests: []events.Request{request(54, ruleID)},
			sent: []time.Time{time.Date(2026, 11, 23, 8, 59, 58, 0, time.UTC)}},
		"eventbridge-queue.json": {ids: []string{ruleID}, requests: []events.Request{request(54, ruleID)}, sent: []time.Time{trigger}},
		"base64-body.json": {ids: []string{firstID, ruleID}, requests: []events.Request{request(54, firstID), request(54, ruleID)},
			sent: []time.Time{trigger, trigger}},
		"body-object.json": {ids: []string{firstID}, requests: []events.Request{request(54, firstID)}, sent: []time.Time{trigger}},
		"announcement.json": {ids: []string{"t4yh0g0g0001/mysql-bin.000058@1669161600000"},
			requests: []events.Request{request(58, "t4yh0g0g0001/mysql-bin.000058@1669161600000")},
			sent:     []time.Time{time.Date(2026, 11, 23, 8, 45, 1, 200e6, time.UTC)}, announced: true},
		"console/list-item.json": typed,
		"console/request-parameters.json": {ids: []string{""},
			requests: []events.Request{native(54, "mysql-bin.000054-again")}, byHand: true},
		"console/queue-batch.json": {ids: []string{batchID, lastID},
			requests: []events.Request{request(56, batchID), native(57, lastID)}, sent: []time.Time{trigger, trigger}},
		"console/dry-run.json": {ids: []string{""}, requests: []events.Request{request(54, setToken)}, byHand: true, dryRun: true},
	} {
		t.Run(file, func(t *testing.T) {
			all := decode(t, readFile(t, file))
			require.Len(t, all, len(want.ids))
			for i, got := range all {
				var sent time.Time
				if want.sent != nil {
					sent = want.sent[i]
				}
				require.Nil(t, got.err)
				assert.Equal(t, want.ids[i], got.event.ID)
				assert.Equal(t, want.requests[i], got.event.Request)
				assert.Equal(t, sent, got.event.Time)
				assert.Equal(t, want.byHand, got.event.ByHand)
				assert.Equal(t, want.dryRun, got.event.DryRun)
				assert.Equal(t, want.announced, got.event.Announced)
				assert.False(t, got.event.Ignored())
			}
		})
	}
}

func TestDecoder_ReadsTheTimeOfTheOutermostEnvelope(t *testing.T) {
	const inner = `{"specversion":"1.0","time":"2026-11-23T08:00:00Z","data":{"BackupSetId":"a","BackupSetName":"b"}}`
	quoted, err := json.Marshal(inner)
	require.NoError(t, err)
	cloudEvent := func(time string) string {
		return `{"specversion":"1.0","time":` + time + `,"data":{"messageBody":` + string(quoted) + `}}`
	}
	topic := func(time string) string {
		return `{"TopicName":"t","PublishTime":` + time + `,"Message":` + string(quoted) + `}`
	}
	ninth := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		payload string
		want    time.Time
	}{
		"whole seconds":         {cloudEvent(`"2026-11-23T09:00:00Z"`), ninth},
		"one digit":             {cloudEvent(`"2026-11-23T09:00:00.5Z"`), ninth.Add(500 * time.Millisecond)},
		"nanoseconds":           {cloudEvent(`"2026-11-23T09:00:00.000000001Z"`), ninth.Add(1)},
		"another zone":          {cloudEvent(`"2026-11-23T17:00:00+08:00"`), ninth},
		"no time":               {cloudEvent(`"soon"`), time.Time{}},
		"not a string":          {cloudEvent(`1669161600000`), time.Time{}},
		"null":                  {cloudEvent(`null`), time.Time{}},
		"topic":                 {topic("1763888400123"), time.UnixMilli(1763888400123)},
		"topic, text":           {topic(`"1763888400123"`), time.Time{}},
		"topic, a fraction":     {topic("1.5"), time.Time{}},
		"topic, zero":           {topic("0"), time.Time{}},
		"topic, beyond reason":  {topic("9223372036854775807"), time.Time{}},
		"raw message":           {`{"messageBody":` + string(quoted) + `}`, time.Time{}},
		"the event by itself":   {inner, ninth.Add(-time.Hour)},
		"no envelope":           {`{"BackupSetId":"a","BackupSetName":"b","time":"2026-11-23T09:00:00Z"}`, time.Time{}},
		"wrong event, but time": {`{"specversion":"1.0","time":"2026-11-23T09:00:00Z","data":{}}`, ninth},
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(c.payload))
			require.Len(t, all, 1)
			assert.True(t, c.want.Equal(all[0].event.Time), all[0].event.Time)
		})
	}
}

func TestDecoder_KnowsAnAnnouncement(t *testing.T) {
	const plan, completed = "acs:dbs:cn-hangzhou:1026000000000000:backupplan/dbsqdss5tmh0001", "dbs:IncrementBackupSet:Completed"
	for name, c := range map[string]struct {
		source, kind string
		want         bool
	}{
		"of a plan":       {plan, completed, true},
		"another type":    {plan, "backup-watcher:IncrementBackupSet:Completed", false},
		"another service": {"acs:rds:cn-hangzhou:1026:backupplan/dbs1", completed, false},
		"another cloud":   {"abc:dbs:cn-hangzhou:1026:backupplan/dbs1", completed, false},
		"another thing":   {"acs:dbs:cn-hangzhou:1026:backupset/dbs1", completed, false},
		"no plan ID":      {"acs:dbs:cn-hangzhou:1026:backupplan/", completed, false},
		"no account":      {"acs:dbs:cn-hangzhou::backupplan/dbs1", completed, false},
		"no region":       {"acs:dbs::1026:backupplan/dbs1", completed, false},
		"cut off":         {"acs:dbs:cn-hangzhou:1026", completed, false},
		"a watcher":       {"backup-watcher", completed, false},
	} {
		t.Run(name, func(t *testing.T) {
			inner := fmt.Sprintf(`{"specversion":"1.0","source":%q,"type":%q,"data":{"BackupSetId":"a","BackupSetName":"b"}}`,
				c.source, c.kind)
			for _, payload := range []string{inner, fmt.Sprintf(`[{"messageId":"1","messageBody":%q}]`, inner)} {
				all := decode(t, []byte(payload))
				require.Nil(t, all[0].err)
				assert.Equal(t, c.want, all[0].event.Announced)
				wantPlan := ""
				if c.want {
					wantPlan = "dbsqdss5tmh0001"
				}
				assert.Equal(t, wantPlan, events.NewResultData(all[0].event).BackupPlanID)
			}
		})
	}
}

func TestDecoder_KnowsTheInnermostEventOnly(t *testing.T) {
	all := decode(t, []byte(`{"specversion":"1.0","source":"acs:dbs:r:a:backupplan/p","type":"dbs:IncrementBackupSet:Completed",
		"data":{"specversion":"1.0","type":"another","data":{"BackupSetId":"a","BackupSetName":"b"}}}`))
	require.Nil(t, all[0].err)
	assert.False(t, all[0].event.Announced)
	assert.Empty(t, all[0].event.BackupPlanID)
}

func TestDecoder_TakesTheLastOfRepeatedNames(t *testing.T) {
	for name, payload := range map[string]string{
		"typed":    `{"BackupSetId":"x","BackupSetName":"b","BackupSetId":"a"}`,
		"in array": `[{"messageBody":"x","messageBody":"{\"BackupSetId\":\"x\",\"BackupSetName\":\"b\",\"BackupSetId\":\"a\"}"}]`,
		"whole, not merged": `{"specversion":"1.0","data":{"BackupSetJobId":"x","BackupSetId":"x"},
			"data":{"BackupSetId":"a","BackupSetName":"b"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(payload))
			require.Len(t, all, 1)
			require.Nil(t, all[0].err)
			assert.Equal(t, events.Request{BackupSetID: "a", BackupSetName: "b", ClientToken: "a/b"}, all[0].event.Request)
		})
	}
}

func TestDecoder_ReplacesWhatIsNotUTF8(t *testing.T) {
	for _, payload := range []string{
		"{\"BackupSetId\":\"a\xff\",\"BackupSetName\":\"b\"}",
		`{"BackupSetId":"a\ud800","BackupSetName":"b"}`,
		"[{\"messageBody\":{\"BackupSetId\":\"a\xff\",\"BackupSetName\":\"b\"}}]",
	} {
		all := decode(t, []byte(payload))
		require.Len(t, all, 1)
		require.Nil(t, all[0].err)
		assert.Equal(t, "a\ufffd", all[0].event.Request.BackupSetID)
	}
}

func TestDecoder_ReadsAPayloadInBase64OrQuoted(t *testing.T) {
	payload := readFile(t, "event-streaming.json")
	want := decode(t, payload)
	quoted, err := json.Marshal(string(payload))
	require.NoError(t, err)
	assert.Equal(t, want, decode(t, []byte(base64.StdEncoding.EncodeToString(payload))))
	assert.Equal(t, want, decode(t, quoted))
	assert.Equal(t, want, decode(t, append([]byte("\xef\xbb\xbf\n"), payload...)))
}

func TestDecoder_KeepsTheOriginalBodyByteForByte(t *testing.T) {
	item := strings.TrimSpace(string(readFile(t, "backup-set", "list-item.json")))
	odd := " \t{\"BackupSetId\" : \"中\\u0001\\\"\" ,\r\n \"x\":[{}]}"
	for name, body := range map[string]string{"indented": item, "odd": odd, "not JSON": " message from mns console", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			payload, err := json.Marshal([]any{map[string]any{
				"specversion": "1.0", "id": "1", "data": map[string]any{"messageId": "2", "messageBody": body},
			}})
			require.NoError(t, err)
			all := decode(t, payload)
			require.Len(t, all, 1)
			assert.Equal(t, body, all[0].event.Body)
			assert.Equal(t, "2", all[0].event.MessageID)
		})
	}
	t.Run("an element that is no object", func(t *testing.T) {
		all := decode(t, []byte(`[ 42, "plain text" ]`))
		require.Len(t, all, 2)
		assert.Equal(t, "42", all[0].event.Body)
		assert.Equal(t, "plain text", all[1].event.Body)
	})
	t.Run("a payload that cannot be read has no copy", func(t *testing.T) {
		all := decode(t, []byte(`[{"messageBody":`))
		require.Len(t, all, 1)
		assert.True(t, all[0].event.ByHand)
		assert.Empty(t, all[0].event.Body)
	})
	t.Run("a CloudEvent without a queue message", func(t *testing.T) {
		whole := `{"specversion":"1.0","id":"1","data":{"BackupSetId":"x"}}`
		all := decode(t, []byte("  "+whole))
		require.Len(t, all, 1)
		assert.Equal(t, whole, all[0].event.Body)
		assert.False(t, all[0].event.ByHand)
	})
}

// A trigger that gives a batch up may dead-letter the CloudEvents around the
// messages; sent to the source queue again, each is read as what it was.
func TestDecoder_ReadsAMessageInsideAMessage(t *testing.T) {
	inner := strings.TrimSpace(string(readFile(t, "event-mode.json")))
	payload, err := json.Marshal([]any{map[string]any{
		"specversion": "1.0", "id": "new", "data": map[string]any{"messageId": "new", "messageBody": inner},
	}})
	require.NoError(t, err)
	all := decode(t, payload)
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	assert.Equal(t, "EB0A77CA8076444C35259077119C0001", all[0].event.ID, "the same event, the same token")
	assert.Equal(t, "new", all[0].event.MessageID)
	assert.Equal(t, inner, all[0].event.Body)
}

func TestDecoder_StopsWhenTheCallerStops(t *testing.T) {
	n := 0
	for _, err := range (events.Decoder{}).Decode(readFile(t, "malformed.json")) {
		require.Error(t, err)
		n++
		break
	}
	assert.Equal(t, 1, n)
}

func FuzzDecoder(f *testing.F) {
	seed(f)
	f.Add(inQueue(f, events.NewFollowUp(created()).Encode()))
	f.Fuzz(func(t *testing.T, payload []byte) {
		all := decode(t, payload)
		var elements []json.RawMessage
		if json.Unmarshal(payload, &elements) == nil && elements != nil {
			require.Len(t, all, len(elements), "no element is lost")
		}
		for _, got := range all {
			if got.err != nil {
				require.Contains(t, []string{
					events.CodeMalformed, events.CodeMissingBackupSet, events.CodeConflict,
					events.CodeUnsupportedDataFormat, events.CodeUnknownBackupStatus, events.CodeOwnResult, events.CodeBadFollowUp,
				}, got.err.Code)
				require.Empty(t, got.event.Request.ClientToken)
				require.Less(t, len(got.err.Message), 512)
				continue
			}
			if got.event.Ignored() {
				continue
			}
			if followUp := got.event.FollowUp; followUp != nil {
				require.NotEmpty(t, followUp.TaskID)
				require.LessOrEqual(t, len(followUp.Encode()), 65_536)
				continue
			}
			r := got.event.Request
			require.NotEmpty(t, r.BackupSetID)
			require.NotEmpty(t, r.BackupSetName)
			require.Regexp(t, `^[ -~]{1,64}$`, r.ClientToken)
			require.NotEmpty(t, got.event.ResultID())
		}
		require.Equal(t, all, decode(t, payload), "the same payload, the same events")
	})
}

// seed adds each file of testdata.
func seed(f *testing.F) {
	f.Helper()
	require.NoError(f, filepath.WalkDir("testdata", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		content, err := os.ReadFile(path)
		f.Add(content)
		return err
	}))
}

// An element that no queue could hold is known by its sum: a copy of it may not fit
// into the instance.
func TestDecoder_KeepsNoBodyThatNoQueueCouldHold(t *testing.T) {
	large := func(c string) string { return `"` + strings.Repeat(c, 400_000) + `"` }
	ids := map[string]bool{}
	for event, err := range (events.Decoder{}).Decode([]byte("[" + large("a") + "," + large("b") + "," + large("a") + `,"c"]`)) {
		require.Error(t, err)
		ids[event.ResultID()] = true
		assert.LessOrEqual(t, len(event.Body), 1)
	}
	assert.Len(t, ids, 3)
}

// Nor is the body of a message in an envelope kept, or a copy of it.
func TestDecoder_KeepsNoBodyOfAMessageThatIsTooLarge(t *testing.T) {
	large := strings.Repeat("A", 400_000)
	for name, c := range map[string]struct{ payload, id string }{
		"with a message ID":    {`[{"messageId":"m","messageBody":"` + large + `"}]`, "m"},
		"without one":          {`[{"messageBody":"` + large + `"}]`, fmt.Sprintf("%x", sha256.Sum256([]byte(large)))},
		"without an envelope":  {`["` + large + `"]`, fmt.Sprintf("%x", sha256.Sum256([]byte(`"`+large+`"`)))},
		"with a line break":    {`[{"messageId":"m","messageBody":"AAAA\n` + large + `"}]`, "m"},
		"in a CloudEvent":      {`[{"specversion":"1.0","id":"e","data":{"messageId":"m","messageBody":"` + large + `"}}]`, "e"},
		"many unknown members": {`[{"messageId":"m","messageBody":{` + strings.Repeat(`"a":1,`, 70_000) + `"b":1}}]`, "m"},
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(c.payload))
			require.Len(t, all, 1)
			require.NotNil(t, all[0].err)
			assert.Empty(t, all[0].event.Body)
			assert.Equal(t, c.id, all[0].event.ID)
		})
	}
}

func TestDecoder_TakesOffEightWrappings(t *testing.T) {
	payload := `{"BackupSetId":"x","BackupSetName":"y"}`
	for range 8 {
		payload = `{"specversion":"1.0","id":"1","data":` + payload + `}`
	}
	assert.Nil(t, decode(t, []byte(payload))[0].err)
}
