package events_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

// A payload of 32 MB must not be held twice, so values are parts of it; and they
// must stay what they are while the rest is read.
func TestRaw_IsAPartOfThePayload(t *testing.T) {
	payload := []byte(`[{"data":{"a":1}},{"data":{"a":2}}]`)
	before := bytes.Clone(payload)
	var values []events.Raw
	for element := range events.Elements(payload) {
		var o struct {
			Data events.Raw `json:"data"`
		}
		require.NoError(t, events.Unmarshal(element, &o))
		values = append(values, o.Data)
	}
	require.Len(t, values, 2)
	assert.Equal(t, before, payload, "the decoder does not write to its buffer")
	assert.Equal(t, `{"a":1}`, string(values[0]))

	payload[bytes.IndexByte(payload, '1')] = '7'
	assert.Equal(t, `{"a":7}`, string(values[0]), "no copy")
}
