package events_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

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
		all = append(all, decoded{event, err})
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

	paramsToken = "82601f1c34a8d1190b17e7ffd4af7c9f899938b639a57562bcb31e89344c88ce"
)

func TestDecoder_ReadsEveryShape(t *testing.T) {
	both := []events.Request{request(54, firstID), native(55, secondID)}
	for file, want := range map[string]struct {
		ids      []string
		requests []events.Request
		byHand   bool
	}{
		"event-streaming.json":         {[]string{firstID, secondID}, both, false},
		"event-streaming-strings.json": {[]string{firstID, secondID}, both, false},
		"event-mode.json": {[]string{"EB0A77CA8076444C35259077119C0001"},
			[]events.Request{request(54, "EB0A77CA8076444C35259077119C0001")}, false},
		"raw-data.json":        {[]string{firstID, secondID}, both, false},
		"raw-data-single.json": {[]string{firstID}, []events.Request{request(54, firstID)}, false},
		"topic-json.json": {[]string{"2F5B3C281B283D4EAC694B7425288675"},
			[]events.Request{request(54, "2F5B3C281B283D4EAC694B7425288675")}, false},
		"topic-stream.json":            {[]string{""}, []events.Request{request(54, paramsToken)}, true},
		"topic-stream-attributes.json": {[]string{""}, []events.Request{request(54, paramsToken)}, false},
		"eventbridge-function.json":    {[]string{ruleID}, []events.Request{request(54, ruleID)}, false},
		"eventbridge-queue.json":       {[]string{ruleID}, []events.Request{request(54, ruleID)}, false},
		"base64-body.json":             {[]string{firstID, ruleID}, []events.Request{request(54, firstID), request(54, ruleID)}, false},
		"body-object.json":             {[]string{firstID}, []events.Request{request(54, firstID)}, false},
		"console/list-item.json":       {[]string{""}, []events.Request{request(54, paramsToken)}, true},
		"console/request-parameters.json": {[]string{""},
			[]events.Request{native(54, "mysql-bin.000054-again")}, true},
		"console/queue-batch.json": {[]string{"EF755211AE83630D7FD1052A357D5571", "EF755211AE83630D7FD1052A357D5572"},
			[]events.Request{request(56, "EF755211AE83630D7FD1052A357D5571"), native(57, "EF755211AE83630D7FD1052A357D5572")}, false},
		"console/dry-run.json": {[]string{""}, []events.Request{request(54, paramsToken)}, true},
	} {
		t.Run(file, func(t *testing.T) {
			all := decode(t, readFile(t, file))
			require.Len(t, all, len(want.ids))
			for i, got := range all {
				require.Nil(t, got.err)
				assert.Equal(t, want.ids[i], got.event.ID)
				assert.Equal(t, want.requests[i], got.event.Request)
				assert.Equal(t, want.byHand, got.event.ByHand)
				assert.Equal(t, file == "console/dry-run.json", got.event.DryRun)
				assert.False(t, got.event.Ignored())
			}
		})
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
	payload, err := json.Marshal([]any{map[string]any{"specversion": "1.0", "id": "new", "data": map[string]any{"messageId": "new", "messageBody": inner}}})
	require.NoError(t, err)
	all := decode(t, payload)
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	assert.Equal(t, "EB0A77CA8076444C35259077119C0001", all[0].event.ID, "the same event, the same token")
	assert.Equal(t, "new", all[0].event.MessageID)
	assert.Equal(t, inner, all[0].event.Body)
}

func TestDecoder_CarriesTheTraceparentOver(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	assert.Equal(t, parent, decode(t, readFile(t, "eventbridge-queue.json"))[0].event.Traceparent)
	bad := strings.ReplaceAll(string(readFile(t, "eventbridge-function.json")), parent, strings.ToUpper(parent))
	assert.Empty(t, decode(t, []byte(bad))[0].event.Traceparent)
}

func TestDecoder_IgnoresABackupSetThatIsNotComplete(t *testing.T) {
	all := decode(t, readFile(t, "unfinished.json"))
	require.Len(t, all, 1)
	require.Nil(t, all[0].err)
	assert.True(t, all[0].event.Ignored())
	assert.Equal(t, "FILLING", all[0].event.BackupStatus)

	for status, ignored := range map[string]bool{"COMPLETED": false, "Completed": false, "": false, "INIT": true, "UNCOMPLETED": true, "x": true} {
		all := decode(t, []byte(`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":"`+status+`"}`))
		assert.Equal(t, ignored, all[0].event.Ignored(), status)
	}

	bare := decode(t, []byte(`{"BackupSetJobId":"a","BackupStatus":"INIT"}`))
	require.Nil(t, bare[0].err, "what is missing still may come with its completion")
	assert.True(t, bare[0].event.Ignored())

	parameters := decode(t, []byte(`{"BackupSetId":"a","BackupSetName":"b","BackupStatus":"FILLING"}`))
	require.Nil(t, parameters[0].err)
	assert.False(t, parameters[0].event.Ignored(), "BackupStatus is a list item's field")
}

func TestDecoder_MakesAStableTokenOfAnyID(t *testing.T) {
	all := decode(t, readFile(t, "unusual-ids.json"))
	require.Len(t, all, 3)
	for _, got := range all {
		require.Nil(t, got.err)
	}
	// Computed with: printf %s "$ID" | sha256sum
	assert.Equal(t, "836203944f4c0280461ad73d31457c22ba19d1d99e232dc231000085899e00a2", all[0].event.Request.ClientToken)
	assert.Equal(t, "aa0990f09f942976148490a154a82c3d5a74d45e525d7eef8eb4c18a73d09e61", all[1].event.Request.ClientToken)
	assert.Equal(t, all, decode(t, readFile(t, "unusual-ids.json")), "the same event, the same token")

	for name, c := range map[string]struct{ id, want string }{
		"64 characters":     {strings.Repeat("a", 64), strings.Repeat("a", 64)},
		"a space and tilde": {"a ~", "a ~"},
		"a number":          {"", "12345"},
	} {
		t.Run(name, func(t *testing.T) {
			id, _ := json.Marshal(c.id)
			if c.id == "" {
				id = []byte("12345")
			}
			payload := fmt.Sprintf(`{"specversion":"1.0","id":%s,"data":{"BackupSetId":"x","BackupSetName":"y"}}`, id)
			all := decode(t, []byte(payload))
			require.Nil(t, all[0].err)
			assert.Equal(t, c.want, all[0].event.Request.ClientToken)
		})
	}
	t.Run("the token without any ID depends on every parameter", func(t *testing.T) {
		seen := map[string]string{}
		for _, body := range []string{
			`{"BackupSetId":"a","BackupSetName":"b"}`, `{"BackupSetId":"a","BackupSetName":"c"}`,
			`{"BackupSetId":"c","BackupSetName":"b"}`, `{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"SQL"}`,
		} {
			seen[decode(t, []byte(body))[0].event.Request.ClientToken] = body
		}
		assert.Len(t, seen, 4)
	})
}

func TestDecoder_AppliesTheDefaultDataFormat(t *testing.T) {
	for event, err := range (events.Decoder{DataFormat: "SQL"}).Decode(readFile(t, "backup-set", "list-item.json")) {
		require.Nil(t, err)
		assert.Equal(t, paramsToken, event.Request.ClientToken, "the token does not change with a setting")
		assert.Equal(t, "SQL", event.Request.BackupSetDataFormat)
	}
	for event, err := range (events.Decoder{DataFormat: "SQL"}).Decode(readFile(t, "event-streaming.json")) {
		require.Nil(t, err)
		want := map[string]string{firstID: "SQL", secondID: "Native"}[event.ID]
		assert.Equal(t, want, event.Request.BackupSetDataFormat)
	}
}

func TestDecoder_SaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ payload, code, says string }{
		"empty":                  {"", events.CodeMalformed, "the payload is empty"},
		"cut off":                {`[{"BackupSetId":"x"`, events.CodeMalformed, "neither a JSON object or array nor base64"},
		"binary":                 {"\x00\xff", events.CodeMalformed, "neither a JSON object or array nor base64"},
		"a number":               {"42", events.CodeMalformed, "neither a JSON object or array nor base64"},
		"other keys":             {`{"key":"value"}`, events.CodeMissingBackupSet, "BackupSetId is missing, and BackupSetJobId or BackupSetName"},
		"no name":                {`{"BackupSetId":"x"}`, events.CodeMissingBackupSet, "BackupSetJobId or BackupSetName is missing"},
		"no ID":                  {`{"BackupSetName":"x"}`, events.CodeMissingBackupSet, "BackupSetId is missing:"},
		"job and name":           {`{"BackupSetName":"x","BackupSetJobId":"y"}`, events.CodeMissingBackupSet, "BackupSetId is missing:"},
		"names in another case":  {`{"backupsetid":"x","backupsetname":"y"}`, events.CodeMissingBackupSet, "BackupSetId is missing, and"},
		"contradiction":          {`{"BackupSetJobId":"x","BackupSetId":"y","BackupSetName":"z"}`, events.CodeConflict, "BackupSetJobId, BackupSetId and BackupSetName"},
		"format":                 {`{"BackupSetId":"x","BackupSetName":"y","BackupSetDataFormat":"sql"}`, events.CodeUnsupportedDataFormat, `"sql"; it must be one of Native, SQL, CSV, JSON`},
		"number for a string":    {`{"BackupSetId":1,"BackupSetName":"y"}`, events.CodeMalformed, "BackupSetId must be a string"},
		"DryRun text":            {`{"BackupSetId":"x","BackupSetName":"y","DryRun":"true"}`, events.CodeMalformed, "DryRun must be true or false"},
		"DryRun in an array":     {`[{"BackupSetId":"x","BackupSetName":"y","DryRun":true}]`, events.CodeMalformed, "DryRun takes one backup set"},
		"DryRun delivered":       {`{"messageBody":"{\"BackupSetId\":\"x\",\"BackupSetName\":\"y\",\"DryRun\":true}"}`, events.CodeMalformed, "DryRun is for events typed by hand"},
		"no data":                {`{"specversion":"1.0","id":"1"}`, events.CodeMalformed, "no data"},
		"ID of a wrong type":     {`{"specversion":"1.0","id":{},"data":{}}`, events.CodeMalformed, "id must be a string"},
		"message ID of that":     {`{"messageId":[],"messageBody":"{}"}`, events.CodeMalformed, "message ID must be a string"},
		"body of a wrong type":   {`{"messageBody":5}`, events.CodeMalformed, "messageBody must be a string"},
		"body null":              {`{"messageBody":null}`, events.CodeMalformed, "messageBody must be a string"},
		"array in a body":        {`{"messageBody":"[{}]"}`, events.CodeMalformed, "one backup set in each message"},
		"too long":               {`{"BackupSetId":"` + strings.Repeat("é", 1025) + `","BackupSetName":"y"}`, events.CodeMalformed, "1025 characters long"},
		"wrapped without an end": {strings.Repeat(`{"specversion":"1.0","id":"1","data":`, 50) + "{}" + strings.Repeat("}", 50), events.CodeMalformed, "wrapped more than"},
	} {
		t.Run(name, func(t *testing.T) {
			all := decode(t, []byte(c.payload))
			require.Len(t, all, 1)
			var declared *events.Error
			require.ErrorAs(t, all[0].err, &declared)
			assert.Equal(t, c.code, declared.Code)
			assert.Contains(t, declared.Error(), c.says)
		})
	}
}

func TestDecoder_TreatsEachMessageOnItsOwn(t *testing.T) {
	all := decode(t, readFile(t, "malformed.json"))
	codes := []string{events.CodeMalformed, events.CodeMissingBackupSet, events.CodeConflict, events.CodeUnsupportedDataFormat, events.CodeMalformed, events.CodeMalformed}
	require.Len(t, all, len(codes))
	for i, got := range all {
		var declared *events.Error
		require.ErrorAs(t, got.err, &declared)
		assert.Equal(t, codes[i], declared.Code)
		assert.NotEmpty(t, got.event.Body)
		assert.False(t, got.event.ByHand)
	}
	assert.Empty(t, decode(t, []byte("[]")))
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

// A payload may have 32 MB: its messages are read one at a time, and nothing of it
// is held decoded.
func TestDecoder_HoldsOneMessageAtATime(t *testing.T) {
	element := `{"specversion":"1.0","id":"1","data":{"messageId":"1","messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\",\"x\":\"` + strings.Repeat("y", 3000) + `\"}"}}`
	payload := []byte("[" + strings.Repeat(element+",", 2000) + element + "]")
	allocated := func(read int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n := 0
		for _, err := range (events.Decoder{}).Decode(payload) {
			require.Nil(t, err)
			if n++; n == read {
				break
			}
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	assert.Less(t, allocated(1), uint64(len(payload)/20), "for the first of 2,001 messages")
	assert.Less(t, allocated(2001), uint64(6*len(payload)), "in all")
}

func TestEvent_ResultIDIsNeverEmptyAndBounded(t *testing.T) {
	body := "message"
	sum := "ab530a13e45914982b79f9b7e3fba994cfd1f3fb22f71cea1afbf02b460c6d1d"
	assert.Equal(t, "id", events.Event{ID: "id", Body: body}.ResultID())
	assert.Equal(t, sum, events.Event{Body: body}.ResultID())
	assert.Len(t, events.Event{ID: "id", Body: body}.OwnResultID(), 64)
	assert.NotEqual(t, events.Event{ID: "id", Body: body}.OwnResultID(), events.Event{ID: "id2", Body: body}.OwnResultID())
	assert.Len(t, events.Event{ID: strings.Repeat("x", 1025)}.ResultID(), 64)
}

func FuzzDecoder(f *testing.F) {
	require.NoError(f, filepath.WalkDir("testdata", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		content, err := os.ReadFile(path)
		f.Add(content)
		return err
	}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		all := decode(t, payload)
		for _, got := range all {
			if got.err != nil {
				var declared *events.Error
				require.ErrorAs(t, got.err, &declared)
				require.Contains(t, []string{events.CodeMalformed, events.CodeMissingBackupSet, events.CodeConflict, events.CodeUnsupportedDataFormat}, declared.Code)
				require.Less(t, len(declared.Message), 512)
				continue
			}
			if got.event.Ignored() {
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
