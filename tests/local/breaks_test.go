package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLocal_BreaksOneThingAndRecovers(t *testing.T) {
	for name, says := range map[string][]string{
		"dbs-permission": {"OperatorFaultError", "Request.Forbidden", `"level":"ERROR"`},
		"mns-permission": {"OperatorFaultError", "AccessDenied", `"level":"ERROR"`},
		"queue":          {"OperatorFaultError", "QueueNotExist", `"level":"ERROR"`},
		"throttle":       {"RedeliveryError", "Throttling", `"level":"WARN"`},
		"hang":           {"RedeliveryError", `"level":"WARN"`, "s: the function works on the batch"},
		"poison":         {`"failed":1`, `"level":"ERROR"`, "Event.Malformed", "In the dead-letter queue: copy of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := execute(t, "", "-break", name)
			require.Zero(t, status, stdout+stderr)
			broken, repaired, found := strings.Cut(stdout, "REPAIRED: ")
			require.True(t, found, stdout)
			assert.Contains(t, broken, "BROKEN: ")
			for _, text := range says {
				assert.Contains(t, broken, text)
			}
			assert.Contains(t, repaired, "The invocation succeeded")
			assert.Contains(t, repaired, "RECOVERED: 20 backup sets, 20 tasks")
			assert.Regexp(t, `docs/operations\.md, has this row for it:\n  \| you see .*\|\n  \|.*\|`, repaired)
		})
	}
}

// Each breakage is in the guide.
func TestBreakages_HaveARowInTheGuide(t *testing.T) {
	for name, b := range breakages() {
		row, err := guideRow(b.guide)
		require.NoError(t, err, name)
		assert.Contains(t, row, b.guide)
	}
	_, err := guideRow("no such code")
	assert.Error(t, err)
}
