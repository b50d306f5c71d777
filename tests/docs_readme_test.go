package tests_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What README says about flags is run by .ci/run.
func TestReadme_TheFlagsAreRun(t *testing.T) {
	script, content := readPage(t, ".ci/run"), readPage(t, "README.md")
	for shown, runs := range map[string]string{
		"`-events 1000 -faults 0.2`":                         "go run ./tests/local -events 1000 -faults 0.2",
		"`go run ./tests/bench -svg tests/bench/growth.svg`": "go run ./tests/bench -quick -svg ",
	} {
		assert.Contains(t, content, shown)
		assert.Contains(t, script, runs)
	}
}

func TestReadme_TheSettingsAreThoseOfTheFunction(t *testing.T) {
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
	assert.Equal(t, settings, names(readPage(t, "README.md"), "(?m)^\\| `([A-Z_]+)` \\|"))
}
