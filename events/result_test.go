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

func schema(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile(filepath.Join("schema", name))
	require.NoError(t, err)
	return compiled
}

func valid(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	return s.Validate(value)
}

func TestResult_IsTheCloudEventOfTheDesign(t *testing.T) {
	event := events.Event{ID: "EB0A77CA8076444C35259077119C0001", Request: events.Request{
		BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", BackupSetDataFormat: "Native", ClientToken: "EB0A77CA8076444C35259077119C0001",
	}}
	data := events.NewResultData(event)
	data.BackupSetDownloadTaskID = "1jydacm0001"
	data.RequestID = "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"
	text := events.EncodingRaw.Encode(events.NewResult(event.ResultID(), event, source, at, data))
	golden, err := os.ReadFile(filepath.Join("testdata", "result", "task-created.json"))
	require.NoError(t, err)
	assert.JSONEq(t, string(golden), text)
	require.NoError(t, valid(t, schema(t, "result.schema.json"), text))

	decoded, err := base64.StdEncoding.DecodeString(events.EncodingBase64.Encode(events.NewResult(event.ResultID(), event, source, at, data)))
	require.NoError(t, err)
	assert.Equal(t, text, string(decoded))
}

func TestResult_FailureCarriesTheErrorInsteadOfATask(t *testing.T) {
	event := events.Event{Body: "rubbish", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	data := events.NewResultData(event)
	data.ErrCode, data.ErrMessage = events.CodeMalformed, "the event is <neither> JSON nor base64"
	text := events.EncodingRaw.Encode(events.NewResult(event.ResultID(), event, source, at, data))
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
		anything := rapid.OneOf(rapid.String(), rapid.Just(strings.Repeat("\x01", 1024)), rapid.Just(strings.Repeat("\u2028", 1024)), rapid.Just(strings.Repeat("x", 70_000)), rapid.Just("\ufffe\uffff"))
		envelope, _ := json.Marshal(map[string]any{"specversion": "1.0", "id": anything.Draw(t, "id"), "data": map[string]any{
			"BackupSetId": anything.Draw(t, "BackupSetId"), "BackupSetName": anything.Draw(t, "BackupSetName"), "ClientToken": anything.Draw(t, "ClientToken"),
		}})
		for event, err := range (events.Decoder{}).Decode(envelope) {
			data := events.NewResultData(event)
			data.RequestID = anything.Draw(t, "RequestId")
			if err == nil && rapid.Bool().Draw(t, "created") {
				data.BackupSetDownloadTaskID = "1jydacm0001"
			} else {
				data.ErrCode = "x" + anything.Draw(t, "ErrCode")
				data.ErrMessage = "x" + anything.Draw(t, "ErrMessage")
			}
			result := events.NewResult(event.ResultID(), event, source, at, data)
			text := events.EncodingRaw.Encode(result)
			if strings.ContainsAny(text, "\ufffe\uffff") {
				t.Fatal("a character that XML cannot carry")
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

func TestSchema_AgreesWithTheDecoderOnTheSamples(t *testing.T) {
	s := schema(t, "backup-event.schema.json")
	for pattern, good := range map[string]bool{"backup-set/*.json": true, "console/[^q]*.json": true, "backup-set/invalid/*.json": false} {
		files, err := filepath.Glob(filepath.Join("testdata", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			all := decode(t, content)
			require.Len(t, all, 1)
			if good {
				require.Nil(t, all[0].err, file)
				assert.NoError(t, valid(t, s, string(content)), file)
			} else {
				require.NotNil(t, all[0].err, file)
				assert.Error(t, valid(t, s, string(content)), file)
			}
		}
	}
}

func TestSchema_AgreesWithTheDecoder(t *testing.T) {
	s := schema(t, "backup-event.schema.json")
	value := rapid.SampledFrom([]any{"t4yh0g0g0001", "mysql-bin.000054", "", nil, 5, strings.Repeat("é", 1024), strings.Repeat("é", 1025), true})
	fields := []struct {
		name  string
		value *rapid.Generator[any]
	}{
		{"BackupSetJobId", value}, {"BackupSetId", value}, {"BackupSetName", value}, {"ClientToken", value},
		{"BackupSetDataFormat", rapid.SampledFrom([]any{"Native", "SQL", "CSV", "JSON", "sql", "", nil, true})},
		{"BackupStatus", rapid.SampledFrom([]any{"COMPLETED", "FILLING", "", nil, 1})},
		{"DryRun", rapid.SampledFrom([]any{true, false, nil, "true"})},
	}
	rapid.Check(t, func(t *rapid.T) {
		set := map[string]any{}
		for _, field := range fields {
			if rapid.Bool().Draw(t, "has "+field.name) {
				set[field.name] = field.value.Draw(t, field.name)
			}
		}
		text, _ := json.Marshal(set)
		parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		schemaErr := s.Validate(parsed)
		for event, decodeErr := range (events.Decoder{}).Decode(text) {
			name, _ := set["BackupSetName"].(string)
			beyond := event.Ignored() || set["BackupSetJobId"] == set["BackupSetId"] && name != ""
			if schemaErr == nil && decodeErr != nil {
				t.Fatalf("the schema takes %s, the decoder does not: %v", text, decodeErr)
			}
			if decodeErr == nil && schemaErr != nil && !beyond {
				t.Fatalf("the decoder takes %s, the schema does not: %v", text, schemaErr)
			}
		}
	})
}

func TestTruncate_CutsOnACharacter(t *testing.T) {
	assert.Equal(t, "short", events.Truncate("short", 5))
	assert.Equal(t, "中…", events.Truncate("中文字", 8))
	assert.Equal(t, "sh…", events.Truncate("shorter", 5))
}
