package rawjson_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"increment-backup-download/events/rawjson"
)

// seed adds each file of testdata and each text.
func seed(f *testing.F, texts ...string) {
	f.Helper()
	require.NoError(f, filepath.WalkDir(filepath.Join("..", "testdata"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		content, err := os.ReadFile(path)
		f.Add(content)
		return err
	}))
	for _, text := range texts {
		f.Add([]byte(text))
	}
}

// The walker reads what encoding/json reads: the same texts are valid, with the
// same members, elements and strings, down to the leaves.
func FuzzJSON(f *testing.F) {
	seed(f,
		"", " ", "{", "[", `"`, `"\`, `"\u`, `"\u12`, "-", "01", "1.", "1e", "1e+", ".5", "+1", "-0.0e-0", "1E5 ", "tru", "true", "nul", "falsex",
		"[1,]", "[,1]", "{\"a\":1,}", "{\"a\" 1}", "{1:2}", "[1 2]", "[]]", "{}{}", "[[[[]]]]", "{\"a\":{\"b\":[{}]}}",
		`{"a":1,"a":2,"\u0061":3}`, `{"":""}`, `["\ud83d\ude00","\ud83d","\ude00","\ud83d\u0041","\ud83d\\u"]`,
		"\"\xff\xfe\"", "\"a\xff\xff\\n\"", "\"\x01\"", "\"\x7f\"", `"\b\f\n\r\t\/\\\"\x"`, "[\"\\\\\",\"\\\\\\\"\"]", "\ufeff{}", "\"\u2028\"",
		strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000), strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001),
		strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat("}", 10_000),
	)
	f.Fuzz(func(t *testing.T, text []byte) {
		require.Equal(t, json.Valid(text), rawjson.Valid(text))
		if json.Valid(text) {
			requireSameValue(t, bytes.Trim(text, " \t\r\n"), 0)
		}
	})
}

func requireSameValue(t *testing.T, value []byte, depth int) {
	t.Helper()
	if depth > 50 {
		return
	}
	switch value[0] {
	case '"':
		var want string
		require.NoError(t, json.Unmarshal(value, &want))
		require.Equal(t, want, string(rawjson.Unquote(value)))
	case '[':
		var want []json.RawMessage
		require.NoError(t, json.Unmarshal(value, &want))
		got := make([]json.RawMessage, 0, len(want))
		for element := range rawjson.Elements(value) {
			requireSameValue(t, element, depth+1)
			got = append(got, element)
		}
		require.Equal(t, want, got)
	case '{':
		var want map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(value, &want))
		got := make(map[string]json.RawMessage, len(want))
		for name, member := range rawjson.Members(value) {
			requireSameValue(t, member, depth+1)
			got[string(name)] = member // the last of equal names counts
		}
		require.Equal(t, want, got)
	}
}
