package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

func TestCheck_OfAnSYAML(t *testing.T) {
	root, err := harness.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "s.yaml"))
	require.NoError(t, err)
	const setting = "        LOG_LEVEL: info\n"
	for name, c := range map[string]struct {
		line   string // of s.yaml
		given  string // in its place
		output string
		fails  string
	}{
		"as it is":          {setting, setting, "Every setting is valid.\n", ""},
		"a misspelt name":   {setting, "        LOOKBACK_HOUR: '24'\n", "warning: LOOKBACK_HOUR is not a setting; did you mean LOOKBACK_HOURS?\nEvery setting is valid.\n", ""},
		"a wrong value":     {setting, "        LOG_LEVEL: loud\n", "the function cannot start until these settings are corrected:\nLOG_LEVEL is \"loud\": give one of debug, info, warn, error\n", "s.yaml has invalid settings"},
		"an unquoted value": {setting, "        MAX_REQUESTS_PER_SECOND: 5\n", "MAX_REQUESTS_PER_SECOND is 5 without quotes: write '5'\n", "s.yaml has invalid settings"},
		"one by a variable": {"  concurrency: '16'\n", "  concurrency: 16\n", "CONCURRENCY is 16 without quotes: write '16'\n", "s.yaml has invalid settings"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, string(text), c.line)
			deployment, err := harness.ParseDeployment([]byte(strings.Replace(string(text), c.line, c.given, 1)))
			require.NoError(t, err)
			var stdout bytes.Buffer
			err = check(t.Context(), deployment, &stdout)
			assert.Equal(t, c.output, stdout.String())
			if c.fails == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fails)
			}
		})
	}
}
