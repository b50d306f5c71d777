package tests_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// queryFinds asserts that the lines which the search part of a query selects have the
// messages and the fields that its analysis names.
func queryFinds(t *testing.T, query string, lines []logLine) {
	t.Helper()
	search, analysis, found := strings.Cut(query, "\n| select ")
	require.True(t, found)
	var selected []logLine
	for _, line := range lines {
		if slices.ContainsFunc(strings.Split(search, " or "), func(term string) bool {
			words := wordsOf(line.text)
			for _, word := range strings.Fields(strings.Trim(term, `"`)) {
				if !slices.Contains(words, strings.ToLower(word)) {
					return false
				}
			}
			return true
		}) {
			selected = append(selected, line)
		}
	}
	require.NotEmpty(t, selected, search)

	var messages []string
	for _, match := range regexp.MustCompile(`'([a-z]+ [^'$%]+)'`).FindAllStringSubmatch(analysis, -1) {
		messages = append(messages, match[1])
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool { return l.msg() == match[1] }), match[1])
	}
	for _, match := range regexp.MustCompile(`'\$\.([A-Za-z]+)'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool {
			return l.fields[match[1]] != nil && (messages == nil || slices.Contains(messages, l.msg()))
		}), match[1])
	}
	for _, match := range regexp.MustCompile(`like '%([^%]+)%'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool {
			return l.fields == nil && strings.Contains(l.text, match[1])
		}), match[1])
	}
	for _, match := range regexp.MustCompile(`'\$\.level'\) = '([A-Z]+)'`).FindAllStringSubmatch(analysis, -1) {
		assert.True(t, slices.ContainsFunc(selected, func(l logLine) bool { return l.fields["level"] == match[1] }), match[1])
	}
	assert.NotRegexp(t, `json_extract_scalar\((?:[^m]|message, '[^$])`, analysis)
	assert.Equal(t, strings.Count(analysis, "("), strings.Count(analysis, ")"))
}

// wordsOf splits a text into words, in lower case, as the index of Log Service does
// by default. See https://www.alibabacloud.com/help/en/sls/create-indexes
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(c rune) bool { return strings.ContainsRune(", '\";=()[]{}?@&<>/:\n\t\r", c) })
}

// The dashboard's charts are queries of the page, which the test above holds.
func TestDocs_TheDashboardHasTheQueriesOfThePage(t *testing.T) {
	oneLine := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	var queries []string
	for _, query := range blocks(t, "docs/alarms.md", "sql") {
		queries = append(queries, oneLine(query))
	}
	var dashboard struct {
		Charts []struct {
			Title   string
			Search  struct{ Logstore, Query string }
			Display struct {
				XAxis, YAxis              []string
				XPos, YPos, Width, Height int
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readPage(t, "docs/dashboard.json")), &dashboard))
	shown := map[string]bool{}
	for _, chart := range dashboard.Charts {
		assert.Contains(t, queries, chart.Search.Query, chart.Title)
		assert.Equal(t, "default-logs", chart.Search.Logstore)
		for _, column := range slices.Concat(chart.Display.XAxis, chart.Display.YAxis) {
			assert.Regexp(t, ` as `+column+`\b`, chart.Search.Query, chart.Title)
		}
		shown[chart.Search.Query] = true
	}
	for _, query := range queries[:5] {
		assert.True(t, shown[query], "one of the five questions: %s", query)
	}
}

// Each alarm has a query that computes what its condition compares.
func TestDocs_TheAlarmsHaveTheirQueries(t *testing.T) {
	_, section, _ := strings.Cut(readPage(t, "docs/alarms.md"), "| alarm | range, every | condition |")
	section, _, _ = strings.Cut(section, "\n\n")
	conditions := regexp.MustCompile("`([a-z_]+) [<>] \\d+`").FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, conditions)
	queries := strings.Join(blocks(t, "docs/alarms.md", "sql"), "\n")
	for _, condition := range conditions {
		assert.Regexp(t, ` as `+condition[1]+`\s`, queries)
	}
}
