package tests_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
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
	samples := append(blocks(t, "README.md", "json"), blocks(t, "docs/operations.md", "json")...)
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
	_, err = invoke(t, cloud, `{"specversion":"1.0","id":"backup-54",`+
		`"data":{"BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054"}}`)
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
	// What needs an account, or is the script itself.
	cannotRun := []string{"npm install -g @serverless-devs/s@3.1.10", "s config add", "s deploy", ".ci/run"}
	assert.Contains(t, string(script), "serverless_devs=3.1.10",
		"the version that renders s.yaml is the one of the README")
	commands := 0
	for _, page := range []string{"README.md", "CONTRIBUTING.md"} {
		for _, block := range blocks(t, page, "sh") {
			for line := range strings.Lines(block) {
				command, _, _ := strings.Cut(line, " #")
				command = strings.TrimSpace(command)
				commands++
				if slices.Contains(cannotRun, command) {
					continue
				}
				assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(command)+`(\s|$)`, string(script), command)
			}
		}
	}
	assert.Equal(t, 8, commands)

	content, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, shown := range []string{"-events 1000 -faults 0.2", "go run ./tests/bench -svg tests/bench/growth.svg"} {
		assert.Contains(t, string(content), shown)
	}
	assert.Contains(t, string(script), "go run ./tests/local -events 1000 -faults 0.2")
	assert.Contains(t, string(script), "go run ./tests/bench -quick -svg ")
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
	require.Len(t, settings, 12)
	assert.Equal(t, settings, names(string(content), "(?m)^\\| `([A-Z_]+)` \\|"))
}

// The operating guide documents every field of the log, and no other.
func TestOperations_TheLogFieldsAreThoseOfTheLog(t *testing.T) {
	content, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(content), "| field | in lines of | meaning |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	documented := map[string]bool{"time": true, "level": true, "msg": true} // of every JSON logger
	for line := range strings.Lines(section) {
		for _, match := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			documented[match[1]] = true
		}
	}

	cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "debug"})
	cloud.DBSFaults.SetPlan(standin.Script(&standin.Fault{Kind: standin.Throttle}))
	payload := strings.Replace(harness.Batch(3), "COMPLETED", "FILLING", 1)
	payload = strings.Replace(payload,
		`\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000002\"`, `\"x\":1`, 1)
	s, err := invoke(t, cloud, payload)
	require.NoError(t, err)
	require.Equal(t, 1, s.Created*s.Failed*s.Ignored)
	logged := map[string]bool{}
	for line := range strings.Lines(logOf(t, instance, s)) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil {
			for name := range fields {
				logged[name] = true
			}
		}
	}
	assert.Equal(t, documented, logged)
}

func TestReadme_EveryLinkLeadsSomewhere(t *testing.T) {
	for _, page := range []string{"README.md", "docs/operations.md", "docs/design.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		content, err := os.ReadFile(filepath.Join("..", page))
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(content), -1) {
			if !strings.HasPrefix(match[1], "https://") {
				_, err := os.Stat(filepath.Join("..", filepath.Dir(page), match[1]))
				require.NoError(t, err, page)
			}
		}
	}
}
