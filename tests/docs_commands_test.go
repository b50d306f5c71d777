package tests_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	assert.Positive(t, found)
}

// Every command of the pages is run by .ci/run, except those that need the cloud.
func TestDocs_EveryCommandIsRun(t *testing.T) {
	script := readPage(t, ".ci/run")
	// What needs an account, or is the script itself.
	cannotRun := []string{
		"export AccountID=… AccessKeyID=… AccessKeySecret=…", "npx -y @serverless-devs/s@3.1.10 deploy -y", ".ci/run",
	}
	assert.Contains(t, script, "serverless_devs=3.1.10", "the version that renders s.yaml is the one of the README")
	commands := 0
	for _, page := range pages {
		for _, block := range blocks(t, page, "sh") {
			for line := range strings.Lines(block) {
				command, _, _ := strings.Cut(line, " #")
				command = strings.TrimSpace(command)
				commands++
				if !slices.Contains(cannotRun, command) {
					assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(command)+`(\s|$)`, script, command)
				}
			}
		}
	}
	assert.Positive(t, commands)
}
