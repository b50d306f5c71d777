package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLocal_BreaksOneThingAndRecovers(t *testing.T) {
	for name, says := range map[string][]string{
		"dbs-permission": {"OperatorFaultError", "Request.Forbidden", "    ERROR "},
		"mns-permission": {"OperatorFaultError", "AccessDenied", "    ERROR "},
		"queue":          {"OperatorFaultError", "QueueNotExist", "    ERROR "},
		"throttle":       {"RedeliveryError", "Throttling", "    WARN "},
		"hang":           {"RedeliveryError", "    WARN "},
		"poison":         {`"failed":1,`, "    ERROR ", "Event.Malformed", `In the dead-letter queue: "copy of`},
		"stopped":        {`"stopped":1`, "    ERROR task stopped: The backup set cannot be read. (1 line)"},
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
			if name == "stopped" {
				assert.Regexp(t, `RECOVERED: task 1jydacm000002 of mysql-bin\.000056 has finished\.\n$`, repaired)
			} else {
				assert.Contains(t, repaired, " succeeds.\n")
				assert.Contains(t, repaired, "RECOVERED: 20 backup sets, 20 tasks")
			}
			assert.Regexp(t, `(?s)WHAT YOU SEE\n.*THE GUIDE, docs/operations\.md\n  .*WHAT HAPPENS MEANWHILE\n`, broken)
			assert.Contains(t, repaired, "\n\nWHAT HAPPENS THEN\n")
			for line := range strings.Lines(stdout) {
				assert.LessOrEqual(t, utf8.RuneCountInString(line), 101, line)
			}
		})
	}
}

// Each breakage is in the guide.
func TestBreakages_HaveARowInTheGuide(t *testing.T) {
	for name, b := range breakages() {
		row, err := guideRow(b.guide)
		require.NoError(t, err, name)
		assert.Contains(t, strings.Join(strings.Fields(row), " "), b.guide)
		assert.NotContains(t, row, "](", name)
	}
	_, err := guideRow("no such code")
	assert.Error(t, err)
}
