package events_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
