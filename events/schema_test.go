package events_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"increment-backup-download/events"
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

func TestSchema_AgreesWithTheDecoderOnTheSamples(t *testing.T) {
	s := schema(t, "backup-event.schema.json")
	for pattern, good := range map[string]bool{
		"backup-set/*.json": true, "console/[^q]*.json": true, "backup-set/invalid/*.json": false,
	} {
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
	value := rapid.SampledFrom([]any{
		"t4yh0g0g0001", "mysql-bin.000054", "", nil, 5, strings.Repeat("é", 1024), strings.Repeat("é", 1025), true,
	})
	fields := []struct {
		name  string
		value *rapid.Generator[any]
	}{
		{"BackupSetJobId", value}, {"BackupSetId", value}, {"BackupSetName", value}, {"ClientToken", value},
		{"BackupSetDataFormat", rapid.SampledFrom([]any{"Native", "SQL", "CSV", "JSON", "sql", "", nil, true})},
		{"BackupStatus", rapid.SampledFrom([]any{"COMPLETED", "completed", " Filling\n", "INIT", "UNCOMPLETED", "finish", "", nil, 1})},
		{"DryRun", rapid.SampledFrom([]any{true, false, nil, "true"})},
	}
	rapid.Check(t, func(t *rapid.T) {
		set := map[string]any{}
		for _, field := range fields {
			if rapid.Bool().Draw(t, "has "+field.name) {
				set[field.name] = field.value.Draw(t, field.name)
			}
		}
		agree(t, s, set, set)
		delete(set, "DryRun") // of events typed by hand only
		agree(t, s, set, map[string]any{"specversion": "1.0", "id": "1", "data": set})
	})
}

// agree holds the two against each other for an event that carries set. The
// decoder takes more: see the schema's description.
func agree(t *rapid.T, s *jsonschema.Schema, set, event map[string]any) {
	text, _ := json.Marshal(event)
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	schemaErr := s.Validate(parsed)
	for read, decodeErr := range (events.Decoder{}).Decode(text) {
		name, _ := set["BackupSetName"].(string)
		beyond := read.Ignored() || set["BackupSetJobId"] == set["BackupSetId"] && name != ""
		if schemaErr == nil && decodeErr != nil {
			t.Fatalf("the schema takes %s, the decoder does not: %v", text, decodeErr)
		}
		if decodeErr == nil && schemaErr != nil && !beyond {
			t.Fatalf("the decoder takes %s, the schema does not: %v", text, schemaErr)
		}
	}
}

// Every event that the official SDK makes is taken, by the decoder and by the
// schema.
func TestSchema_TakesWhatTheCloudEventsSDKMakes(t *testing.T) {
	item := map[string]any{
		"BackupSetJobId": "t4yh0g0g0001", "BackupSetId": "mysql-bin.000054", "BackupStatus": "COMPLETED", "BackupSize": 1073742336,
	}
	text, err := json.Marshal(item)
	require.NoError(t, err)
	type setter = func(*cloudevents.Event) error
	data := func(contentType string, value any) setter {
		return func(e *cloudevents.Event) error { return e.SetData(contentType, value) }
	}
	for name, set := range map[string]setter{
		"a value as JSON":         data(cloudevents.ApplicationJSON, item),
		"bytes as JSON":           data(cloudevents.ApplicationJSON, text),
		"raw JSON":                data(cloudevents.ApplicationJSON, json.RawMessage(text)),
		"JSON in a JSON string":   data(cloudevents.ApplicationJSON, string(text)),
		"text":                    data(cloudevents.TextPlain, string(text)),
		"bytes as text":           data(cloudevents.TextPlain, text),
		"bytes of any type":       data("application/octet-stream", text),
		"JSON with a charset":     data("application/json; charset=utf-8", item),
		"JSON of a format":        data("application/vnd.backup+json", text),
		"no content type":         data("", text),
		"bytes, said to be clear": func(e *cloudevents.Event) error { e.DataEncoded, e.DataBase64 = text, false; return nil },
		"every attribute": func(e *cloudevents.Event) error {
			e.SetSubject("mysql-bin.000054")
			e.SetTime(time.Date(2026, 11, 23, 9, 0, 0, 123, time.UTC))
			e.SetDataSchema("https://example.com/schema")
			e.SetExtension("traceparent", parent)
			e.SetExtension("tracestate", "a=1")
			e.SetExtension("number", 7)
			e.SetExtension("flag", true)
			e.SetExtension("bytes", []byte("x"))
			return e.SetData(cloudevents.ApplicationJSON, item)
		},
		"version 0.3": func(e *cloudevents.Event) error {
			e.SetSpecVersion(cloudevents.CloudEventsVersionV03)
			return e.SetData(cloudevents.ApplicationJSON, item)
		},
		"version 0.3, base64": func(e *cloudevents.Event) error {
			e.SetSpecVersion(cloudevents.CloudEventsVersionV03)
			e.SetDataContentEncoding(cloudevents.Base64)
			return e.SetData(cloudevents.ApplicationJSON, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			event := cloudevents.New()
			event.SetID("backup-54")
			event.SetSource("backup-watcher")
			event.SetType("backup-watcher:IncrementBackupSet:Completed")
			require.NoError(t, set(&event))
			body, err := event.MarshalJSON()
			require.NoError(t, err)
			assert.NoError(t, valid(t, schema(t, "backup-event.schema.json"), string(body)), string(body))

			inQueue, err := json.Marshal(map[string]string{"messageId": "1", "messageBody": string(body)})
			require.NoError(t, err)
			for _, payload := range [][]byte{body, inQueue} {
				all := decode(t, payload)
				require.Len(t, all, 1)
				require.Nil(t, all[0].err, string(body))
				assert.Equal(t, request(54, "backup-54"), all[0].event.Request)
			}
		})
	}
}

// Results are valid for the official SDK.
func TestResult_IsReadByTheCloudEventsSDK(t *testing.T) {
	event := decode(t, readFile(t, "eventbridge-queue.json"))[0].event
	result := events.NewResult(events.TypeTaskCreated, event.ResultID(), event, source, at, events.NewResultData(event))
	var read cloudevents.Event
	require.NoError(t, json.Unmarshal([]byte(events.EncodingRaw.Encode(result)), &read))
	require.NoError(t, read.Validate())
	assert.Equal(t, ruleID, read.ID())
	assert.Equal(t, "mysql-bin.000054", read.Subject())
	assert.Equal(t, parent, read.Extensions()["traceparent"])
	var data events.ResultData
	require.NoError(t, read.DataAs(&data))
	assert.Equal(t, result.Data, data)
}
