package events_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced decodes an event with this trace context and returns its result.
func traced(t *testing.T, traceparent, tracestate string) events.Result {
	t.Helper()
	envelope, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": "1", "traceparent": traceparent, "tracestate": tracestate,
		"data": map[string]any{"BackupSetId": "a", "BackupSetName": "b"},
	})
	require.NoError(t, err)
	all := decode(t, envelope)
	require.Nil(t, all[0].err)
	result := events.NewResult(events.TypeTaskFailed, "1", all[0].event, source, at, events.NewResultData(all[0].event))
	result.Data.ErrCode, result.Data.ErrMessage = "x", "x"
	assert.NoError(t, valid(t, schema(t, "result.schema.json"), events.EncodingRaw.Encode(result)))
	return result
}

// The cases are those of https://github.com/w3c/trace-context/blob/main/test/test.py
func TestResult_CarriesATraceparentOfTheRightForm(t *testing.T) {
	later := strings.Replace(parent, "00-", "cc-", 1)
	for name, c := range map[string]struct {
		traceparent string
		carried     bool
	}{
		"version 00":                {parent, true},
		"any flags":                 {parent[:53] + "ff", true},
		"version 00 with a suffix":  {parent + "-what-the-future-will-be-like", false},
		"version 00 with a dash":    {parent + "-", false},
		"a later version":           {later, true},
		"a later one with a suffix": {later + "-what-the-future-will-be-like", true},
		"a later one, no dash":      {later + ".what-the-future-will-be-like", false},
		"a later one, odd suffix":   {later + "-\x01", false},
		"a later one without end":   {later + "-" + strings.Repeat("x", 512), false},
		"version ff":                {"ff" + parent[2:], false},
		"upper case":                {strings.ToUpper(parent), false},
		"zero trace ID":             {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		"zero parent ID":            {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		"too short":                 {parent[:54], false},
		"too long":                  {parent + "0", false},
		"not hexadecimal":           {strings.Replace(parent, "4bf9", "4bg9", 1), false},
		"no dash":                   {strings.Replace(parent, "-01", "_01", 1), false},
		"spaces":                    {" " + parent, false},
		"empty":                     {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			want := events.Result{}
			if c.carried {
				want.Traceparent, want.Tracestate = c.traceparent, "congo=t61rcWkgMzE"
			}
			got := traced(t, c.traceparent, "congo=t61rcWkgMzE")
			assert.Equal(t, want.Traceparent, got.Traceparent)
			assert.Equal(t, want.Tracestate, got.Tracestate, "tracestate goes with its traceparent only")
		})
	}
}

func TestResult_CarriesAPrintableTracestate(t *testing.T) {
	for name, c := range map[string]struct{ tracestate, want string }{
		"two members":   {"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"},
		"not our rules": {" foo=1 ,foo=2", " foo=1 ,foo=2"},
		"a control":     {"foo=1\n2", ""},
		"not ASCII":     {"foo=é", ""},
		"512 bytes":     {strings.Repeat("x", 512), strings.Repeat("x", 512)},
		"513 bytes":     {strings.Repeat("x", 513), ""},
		"empty":         {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := traced(t, parent, c.tracestate)
			assert.Equal(t, parent, got.Traceparent)
			assert.Equal(t, c.want, got.Tracestate)
		})
	}
}

func TestDecoder_TakesTheTraceContextOfTheInnermostEnvelope(t *testing.T) {
	assert.Equal(t, parent, decode(t, readFile(t, "eventbridge-queue.json"))[0].event.Traceparent)

	inner := strings.Replace(parent, "4bf9", "aaaa", 1)
	for name, c := range map[string]struct{ inner, parent, state string }{
		"both":         {`"traceparent":"` + inner + `","tracestate":"b=2",`, inner, "b=2"},
		"no state":     {`"traceparent":"` + inner + `",`, inner, ""},
		"state only":   {`"tracestate":"b=2",`, parent, "a=1"},
		"invalid":      {`"traceparent":"x","tracestate":"b=2",`, parent, "a=1"},
		"wrong type":   {`"traceparent":1,"tracestate":2,`, parent, "a=1"},
		"odd state":    {`"traceparent":"` + inner + `","tracestate":2,`, inner, ""},
		"none":         {``, parent, "a=1"},
		"null is none": {`"traceparent":null,`, parent, "a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			payload := `{"specversion":"1.0","id":"1","traceparent":"` + parent + `","tracestate":"a=1","data":{"specversion":"1.0",` +
				c.inner + `"data":{"BackupSetId":"a","BackupSetName":"b"}}}`
			event := decode(t, []byte(payload))[0].event
			assert.Equal(t, c.parent, event.Traceparent)
			assert.Equal(t, c.state, event.Tracestate)
		})
	}
}
