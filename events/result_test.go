package events_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"increment-backup-download/events"
)

var (
	source = events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "increment-backup-download"}
	at     = time.Date(2026, 11, 23, 17, 0, 0, 123_999_000, time.FixedZone("CST", 8*3600))
)

func TestResult_IsTheCloudEventOfTheDesign(t *testing.T) {
	event := events.Event{ID: "EB0A77CA8076444C35259077119C0001", Request: events.Request{
		BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", BackupSetDataFormat: "Native",
		ClientToken: "EB0A77CA8076444C35259077119C0001",
	}}
	data := events.NewResultData(event)
	data.BackupSetDownloadTaskID = "1jydacm0001"
	data.RequestID = "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"
	text := events.EncodingRaw.Encode(events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, data))
	golden, err := os.ReadFile(filepath.Join("testdata", "result", "task-created.json"))
	require.NoError(t, err)
	assert.JSONEq(t, string(golden), text)
	require.NoError(t, valid(t, schema(t, "result.schema.json"), text))

	encoded := events.EncodingBase64.Encode(events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, data))
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	assert.Equal(t, text, string(decoded))
}

func TestResult_FailureCarriesTheErrorInsteadOfATask(t *testing.T) {
	event := events.Event{Body: "rubbish", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	data := events.NewResultData(event)
	data.ErrCode, data.ErrMessage = events.CodeMalformed, "the event is <neither> JSON nor base64"
	text := events.EncodingRaw.Encode(events.NewResult(events.TypeTaskFailed, event.ResultID(), event, source, at, data))
	golden, err := os.ReadFile(filepath.Join("testdata", "result", "task-failed.json"))
	require.NoError(t, err)
	assert.JSONEq(t, string(golden), text)
	assert.NotContains(t, text, `\u003c`, "readable, not escaped for HTML")
	assert.NoError(t, valid(t, schema(t, "result.schema.json"), text))
}

// Whatever an event and a service say, a result keeps its schema and fits into a
// queue message in either encoding.
func TestResult_AlwaysKeepsItsSchemaAndFitsAQueueMessage(t *testing.T) {
	s := schema(t, "result.schema.json")
	rapid.Check(t, func(t *rapid.T) {
		anything := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			strings.Repeat("\x01", 1024), strings.Repeat("\u2028", 1024), strings.Repeat("x", 70_000), "\ufffe\uffff",
		}))
		envelope, _ := json.Marshal(map[string]any{"specversion": "1.0", "id": anything.Draw(t, "id"),
			"type": events.TypeBackupSetCompleted, "source": "acs:dbs:r:a:backupplan/" + anything.Draw(t, "plan"), "data": map[string]any{
				"BackupSetId": anything.Draw(t, "BackupSetId"), "BackupSetName": anything.Draw(t, "BackupSetName"),
				"ClientToken": anything.Draw(t, "ClientToken"),
			}})
		for event, err := range (events.Decoder{}).Decode(envelope) {
			data := events.NewResultData(event)
			data.RequestID = anything.Draw(t, "RequestId")
			kind := events.TypeTaskFailed
			if err == nil && rapid.Bool().Draw(t, "created") {
				kind = events.TypeTaskCreated
				data.BackupSetDownloadTaskID = "1jydacm0001"
			} else {
				data.ErrCode = "x" + anything.Draw(t, "ErrCode")
				data.ErrMessage = "x" + anything.Draw(t, "ErrMessage")
			}
			result := events.NewResult(kind, event.ResultID(), event, source, at, data)
			text := events.EncodingRaw.Encode(result)
			if strings.ContainsFunc(text, notInXML) {
				t.Fatal("a character that XML cannot carry")
			}
			var read events.Result
			if readErr := json.Unmarshal([]byte(text), &read); readErr != nil || read != result {
				t.Fatalf("read as %+v, %v", read, readErr)
			}
			if len(events.EncodingBase64.Encode(result)) > 65536 {
				t.Fatalf("a result of %d bytes", len(text))
			}
			value, jsonErr := jsonschema.UnmarshalJSON(strings.NewReader(text))
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			if schemaErr := s.Validate(value); schemaErr != nil {
				t.Fatalf("%s\n%v", events.Truncate(text, 2000), schemaErr)
			}
		}
	})
}

// notInXML reports whether XML, in which a queue message travels, cannot carry c. See
// https://www.w3.org/TR/xml/#charsets.
func notInXML(c rune) bool {
	return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xfffe || c == 0xffff
}

func TestEncoding_KeepsAnyText(t *testing.T) {
	for name, c := range map[string]struct{ text, encoded string }{
		"readable":   {"<a&b> é\u2028", "<a&b> é\u2028"},
		"quoted":     {`"\`, `\"\\`},
		"controls":   {"\x00\x1f\n", `\u0000\u001f\n`},
		"not in XML": {"a\ufffe\uffffb", `a\ufffe\uffffb`},
		"not UTF-8":  {"a\xffb", "a\ufffdb"},
	} {
		t.Run(name, func(t *testing.T) {
			text := events.EncodingRaw.Encode(events.Result{Data: events.ResultData{ErrMessage: c.text}})
			assert.Contains(t, text, `"ErrMessage":"`+c.encoded+`"`)
			assert.False(t, strings.ContainsFunc(text, notInXML))
			var read events.Result
			require.NoError(t, json.Unmarshal([]byte(text), &read))
			assert.Equal(t, strings.ToValidUTF8(c.text, "\ufffd"), read.Data.ErrMessage)
		})
	}
}

func TestTruncate_CutsOnACharacter(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		limit int
		want  string
	}{
		"fits":               {"short", 5, "short"},
		"ASCII":              {"shorter", 5, "sh…"},
		"inside a character": {"中文字", 8, "中…"},
		"the ellipsis alone": {"中文字", 3, "…"},
		"no character":       {"\x80\x80\x80\x80\x80", 4, "…"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, events.Truncate(c.text, c.limit)) })
	}
}

func TestResultData_ALongEventIDIsItsDigest(t *testing.T) {
	e := events.Event{ID: strings.Repeat("x", 1025)}
	assert.Equal(t, e.ResultID(), events.NewResultData(e).EventID)
}
