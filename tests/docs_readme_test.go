package tests_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	require.NotEmpty(t, settings)
	assert.Equal(t, settings, names(readPage(t, "README.md"), "(?m)^\\| `([A-Z_]+)` \\|"))
}
