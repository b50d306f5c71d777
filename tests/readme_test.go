package tests_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// blocks returns the fenced blocks of a page in the given language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	var found []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(content), -1) {
		found = append(found, strings.TrimSpace(match[1]))
	}
	return found
}

// Every JSON sample of the pages goes where it says: what comes in is delivered,
// and what goes out is held against the schema and against what really goes out.
func TestReadme_EveryJSONSampleIsTrue(t *testing.T) {
	samples := append(blocks(t, "README.md", "json"), blocks(t, "OPERATIONS.md", "json")...)
	require.Len(t, samples, 3)
	for _, event := range append(strings.Split(samples[0], "\n"), samples[2]) {
		cloud, _ := deploy(t, nil)
		_, err := cloud.MNS.Put(harness.SourceQueue, event)
		require.NoError(t, err)
		_, _, err = cloud.Trigger(100).Drain(t.Context())
		require.NoError(t, err)
		assert.Len(t, cloud.DBS.Tasks(), 1, event)
	}

	result, err := jsonschema.NewCompiler().Compile("../events/schema/result.schema.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(samples[1]))
	require.NoError(t, err)
	require.NoError(t, result.Validate(value))
	cloud, _ := deploy(t, nil)
	_, err = invoke(t, cloud, `{"specversion":"1.0","id":"backup-54","data":{"BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054"}}`)
	require.NoError(t, err)
	var shown, real map[string]any
	require.NoError(t, json.Unmarshal([]byte(samples[1]), &shown))
	require.NoError(t, json.Unmarshal([]byte(cloud.MNS.Messages(harness.ResultQueue)[0].Body), &real))
	for _, volatile := range []string{"time"} {
		delete(shown, volatile)
		delete(real, volatile)
	}
	for _, volatile := range []string{"RequestId", "BackupSetDownloadTaskId"} {
		for _, m := range []map[string]any{shown, real} {
			data, _ := m["data"].(map[string]any)
			require.Contains(t, data, volatile)
			delete(data, volatile)
		}
	}
	assert.Equal(t, real, shown)
}

// Every command of the pages is run by .ci/run, but for those that need the cloud.
func TestReadme_EveryCommandIsRun(t *testing.T) {
	script, err := os.ReadFile("../.ci/run")
	require.NoError(t, err)
	needTheCloud := map[string]string{
		"npm install -g @serverless-devs/s@3.1.10": "@serverless-devs/s@$serverless_devs",
		"s config add": "", // an access key
		"s deploy":     "", // an account
		".ci/run":      "",
	}
	commands := 0
	for _, page := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, block := range blocks(t, page, "sh") {
			for line := range strings.Lines(block) {
				command, _, _ := strings.Cut(line, " #")
				command = strings.TrimSpace(command)
				commands++
				if instead, ok := needTheCloud[command]; ok {
					assert.Contains(t, string(script), instead)
					continue
				}
				assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(command)+`(\s|$)`, string(script), command)
			}
		}
	}
	assert.Equal(t, 8, commands)
}

func TestReadme_TheSettingsAreThoseOfTheFunction(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, usage := run(t, nil, "-h")
	names := func(text, pattern string) []string {
		var found []string
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, match[1])
		}
		return found
	}
	settings := names(usage, `(?m)^  ([A-Z_]+) `)
	require.Len(t, settings, 9)
	assert.Equal(t, settings, names(string(content), "(?m)^\\| `([A-Z_]+)` \\|"))
}

func TestReadme_EveryLinkLeadsSomewhere(t *testing.T) {
	for _, page := range []string{"README.md", "OPERATIONS.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		content, err := os.ReadFile(filepath.Join("..", page))
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(content), -1) {
			if !strings.HasPrefix(match[1], "https://") {
				_, err := os.Stat(filepath.Join("..", match[1]))
				require.NoError(t, err, page)
			}
		}
	}
}
