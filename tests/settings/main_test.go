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
	require.Contains(t, string(text), setting)
	for name, c := range map[string]struct {
		line   string // in place of LOG_LEVEL
		output string
		fails  string
	}{
		"as it is":          {setting, "No setting is wrong.\n", ""},
		"a misspelt name":   {"        LOOKBACK_HOUR: '24'\n", "warning: LOOKBACK_HOUR is no setting; did you mean LOOKBACK_HOURS?\nNo setting is wrong.\n", ""},
		"a wrong value":     {"        LOG_LEVEL: loud\n", "the function cannot start, its settings are wrong:\nLOG_LEVEL is \"loud\": give one of debug, info, warn, error\n", "s.yaml has wrong settings"},
		"an unquoted value": {"        MAX_REQUESTS_PER_SECOND: 5\n", "No setting is wrong.\n", "MAX_REQUESTS_PER_SECOND is 5 in s.yaml: put it in quotes, '5'"},
	} {
		t.Run(name, func(t *testing.T) {
			deployment, err := harness.ParseDeployment([]byte(strings.Replace(string(text), setting, c.line, 1)))
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
