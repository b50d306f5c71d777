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
		"a misspelt name":   {setting, "        LOOKBACK_HOUR: '24'\n", "warning: LOOKBACK_HOUR is not a setting; did you mean LOOKBACK_HOURS?\nNo value is invalid, but the names above are ignored.\n", ""},
		"a wrong value":     {setting, "        LOG_LEVEL: loud\n", "the function cannot start until these settings are corrected:\nLOG_LEVEL is \"loud\": give one of debug, info, warn, error\n", "s.yaml has invalid settings"},
		"an unquoted value": {setting, "        MAX_REQUESTS_PER_SECOND: 5\n", "MAX_REQUESTS_PER_SECOND is 5 without quotes: write '5'\n", "s.yaml has invalid settings"},
		"no value":          {setting, "        RESULT_ENCODING:\n", "RESULT_ENCODING has no value: write '' if it is to be empty\n", "s.yaml has invalid settings"},
		"an unknown variable": {"  concurrency: '16'\n", "  concurency: '16'\n",
			"CONCURRENCY is ${vars.concurrency}, which vars does not have\n", "s.yaml has invalid settings"},
		"the account's endpoint": {setting, "        MNS_ENDPOINT: http://${config('AccountID')}.mns.cn-hangzhou-internal.aliyuncs.com\n",
			"Every setting is valid.\n", ""},
		"a function's name": {"  functionName: increment-backup-download\n", "  functionName: Increment_Backup\n",
			"functionName is \"Increment_Backup\": give 1 to 46 lower-case letters, digits and hyphens, starting with a letter\n", "s.yaml has invalid settings"},
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
