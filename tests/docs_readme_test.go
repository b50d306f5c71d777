package tests_test

import (
	"os/exec"
	"regexp"
	"strings"
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

// The flags of every command that the pages name in passing are flags of that command.
func TestDocs_TheFlagsInPassingExist(t *testing.T) {
	usages := map[string]string{}
	for _, program := range []string{"./tests/local", "./tests/bench"} {
		command := exec.CommandContext(t.Context(), "go", "run", program, "-h")
		command.Dir = ".."
		usage, err := command.Output()
		require.NoError(t, err)
		usages[program] = string(usage)
	}
	found := 0
	for _, page := range pages {
		for _, command := range quoted(fence.ReplaceAllString(readPage(t, page), "")) {
			words := strings.Fields(command)
			program := "./tests/local" // README leaves it out
			if strings.HasPrefix(command, "go run ./tests/") {
				program, words = words[2], words[3:]
			} else if !strings.HasPrefix(command, "-") {
				continue
			}
			for i, word := range words {
				if strings.HasPrefix(word, "-") {
					found++
					assert.Regexp(t, `(?m)^  `+word+`\b`, usages[program], command)
				} else if words[i-1] == "-break" || words[i-1] == "-run" {
					assert.Contains(t, usages[program], word, command)
				}
			}
		}
	}
	assert.Greater(t, found, 5)
}
