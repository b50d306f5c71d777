package tests_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pages are all that a reader is led to.
var pages = []string{
	"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/operations.md", "docs/alarms.md", "docs/benchmark.md", "docs/design.md",
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	return string(content)
}

// fence matches a fenced block: its language and its text.
var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// blocks returns the fenced blocks of a page in the given language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	var found []string
	for _, match := range fence.FindAllStringSubmatch(readPage(t, page), -1) {
		if match[1] == language {
			found = append(found, strings.TrimSpace(match[2]))
		}
	}
	return found
}

// cells returns the first cells of the rows of all tables of a page, without their
// headers.
func cells(t *testing.T, page string) []string {
	t.Helper()
	var found []string
	header := true
	for line := range strings.Lines(fence.ReplaceAllString(readPage(t, page), "")) {
		row := strings.Split(strings.TrimSpace(line), "|")
		switch {
		case len(row) < 3:
			header = true
		case header:
			header = false
		case !strings.HasPrefix(row[1], "---"):
			found = append(found, strings.TrimSpace(row[1]))
		}
	}
	return found
}

// quoted returns what stands in backquotes.
func quoted(text string) []string {
	var found []string
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

func TestDocs_TablesFitAScreen(t *testing.T) {
	for _, page := range pages {
		for line := range strings.Lines(fence.ReplaceAllString(readPage(t, page), "")) {
			if strings.HasPrefix(line, "|") {
				assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSpace(line)), 120, "%s: %s", page, line)
			}
		}
	}
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(readPage(t, page), -1) {
		text := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(match[1]), "")
		found = append(found, strings.ReplaceAll(text, " ", "-"))
	}
	return found
}

func TestDocs_EveryLinkLeadsSomewhere(t *testing.T) {
	links := 0
	for _, page := range pages {
		for _, match := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(readPage(t, page), -1) {
			if strings.HasPrefix(match[1], "https://") {
				continue
			}
			links++
			target := page
			if match[1] != "" {
				target = filepath.Join(filepath.Dir(page), match[1])
				_, err := os.Stat(filepath.Join("..", target))
				require.NoError(t, err, page)
			}
			if match[2] != "" {
				assert.Contains(t, anchors(t, target), match[2], page)
			}
		}
	}
	assert.Positive(t, links)
}

// What it costs to follow a task is the same on both pages; package follow counts it.
func TestDocs_TheGuideHasTheCountedCostOfFollowing(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| (\d+ \w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$`).
		FindAllStringSubmatch(readPage(t, "docs/benchmark.md"), -1)
	require.NotEmpty(t, rows)
	guide := readPage(t, "docs/operations.md")
	for _, row := range rows {
		assert.Contains(t, guide, fmt.Sprintf("| %s | %s to %s | %s to %s |", row[1], row[2], row[3], row[4], row[5]))
	}
}
