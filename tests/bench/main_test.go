package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

func TestRun_ChecksItsFlagsBeforeItMeasures(t *testing.T) {
	for name, c := range map[string]struct {
		arguments      []string
		status         int
		stdout, stderr string
	}{
		"help":               {[]string{"-h"}, 0, "go run ./tests/bench", ""},
		"help lists steps":   {[]string{"-h"}, 0, "\n  growth             one batch", ""},
		"unknown flag":       {[]string{"-fast"}, 2, "", "-fast"},
		"argument":           {[]string{"-quick", "fast"}, 2, "", `"fast" is not a flag`},
		"two formats":        {[]string{"-json", "-markdown"}, 2, "", "-json or -markdown, not both"},
		"no such step":       {[]string{"-run", "nothing"}, 2, "", `no step has a name that contains "nothing"`},
		"flag without value": {[]string{"-run"}, 2, "", "-run"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), c.arguments, &stdout, &stderr)
			assert.Equal(t, c.status, status)
			assert.Contains(t, stdout.String(), c.stdout)
			assert.Contains(t, stderr.String(), c.stderr)
			assert.True(t, stdout.Len() == 0 || stderr.Len() == 0, "one stream only")
		})
	}
}

func TestRun_TakesTheStepsWhoseNameContainsTheWord(t *testing.T) {
	for word, steps := range map[string][]string{
		"TLS":   {"tls"},
		"limit": {"limit-memory", "limit-time"},
	} {
		var taken []string
		for _, s := range (&bench{options: options{run: word}}).steps() {
			taken = append(taken, s.name)
		}
		assert.Equal(t, steps, taken)
	}
}

func TestRun_LeavesNothingBehindWhenInterrupted(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 1, run(ctx, []string{"-run", "size"}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), context.Canceled.Error())
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestFigure_MissesItsGoalByRatioOrElseByMedian(t *testing.T) {
	for name, c := range map[string]struct {
		figure figure
		missed bool
	}{
		"ratio within":   {figure{Median: 15, Of: 10, Goal: 1.5}, false},
		"ratio beyond":   {figure{Median: 16, Of: 10, Goal: 1.5}, true},
		"median within":  {figure{Median: 11, Goal: 11}, false},
		"median beyond":  {figure{Median: 11.1, Goal: 11}, true},
		"without a goal": {figure{Median: 16, Of: 10}, false},
	} {
		assert.Equal(t, c.missed, c.figure.judged().Missed, name)
	}
}

func TestReport_HasOneNumberACell(t *testing.T) {
	doc := document{
		Machine:     "2 cores",
		Growth:      []batch{{Events: 10_000, WholeCores: 12_900.4, Ideal: 12_500}},
		Concurrency: []batch{{Events: 640, Concurrency: 16, WholeCores: 845, Ideal: 800}},
		Limits:      []limit{{Case: "a bad byte", Timeout: 60, Ended: killed, Seconds: 9.4}},
		Discovery:   []discoveryRun{{Case: "250 plans", On: onDeployed, Ended: answered, ListCalls: 1234, Seconds: 120.5, Ideal: 12.5, PeakMB: 30.25}},
		Notes:       []string{"Nothing was measured there."},
	}
	doc.add(figure{Name: "fast", On: onWholeCores, Unit: "ms", Median: 10.5, Yardstick: "ideal", Of: 10, Goal: 1.06},
		figure{Name: "slow", On: onDeployed, Unit: "ms", Median: 30, Yardstick: "ideal", Of: 10, Goal: 1.35})
	rows := []string{
		"fast, ms | 10.5 | ideal | 10 | 1.05 | 1.06",
		"slow, ms | 30 | ideal | 10 | 3 | 1.35 missed",
		"10,000 | 12,900 | | 12,500",
		"16 | 640 | 845 | 800",
		"a bad byte | 60 | killed | 9.40 |",
		"250 plans | answered | 1,234 | 120 | 12.5 | 30.2",
	}
	columns := regexp.MustCompile(` *[|│] *`)
	for name, print := range map[string]func(io.Writer){"terminal": doc.print, "Markdown": doc.printMarkdown} {
		var out bytes.Buffer
		print(&out)
		var found []string
		for line := range strings.Lines(out.String()) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSpace(line)), 100, line)
			found = append(found, strings.TrimSpace(strings.Trim(columns.ReplaceAllString(strings.TrimSpace(line), " | "), "| ")))
		}
		for _, row := range rows {
			assert.Contains(t, found, strings.Trim(columns.ReplaceAllString(row, " | "), "| "), name)
		}
		assert.Contains(t, out.String(), "Nothing was measured there.", name)
	}
}

func TestLimit_KeepsTheWorstRound(t *testing.T) {
	for name, c := range map[string]struct {
		rounds []outcome
		want   limit
	}{
		"the slowest answer":         {[]outcome{{ended: answered, seconds: 2}, {ended: answered, seconds: 3}, {ended: answered, seconds: 1}}, limit{Ended: answered, Seconds: 3}},
		"late, not answered":         {[]outcome{{ended: answered, seconds: 2.9}, {ended: late, seconds: 3}, {ended: answered, seconds: 2.8}}, limit{Ended: late, Seconds: 3}},
		"killed, however soon":       {[]outcome{{ended: late, seconds: 3}, {ended: killed, seconds: 1}, {ended: late, seconds: 3}}, limit{Ended: killed, Seconds: 1}},
		"the latest of those killed": {[]outcome{{ended: killed, seconds: 2}, {ended: killed, seconds: 1}}, limit{Ended: killed, Seconds: 2}},
	} {
		var row limit
		for _, o := range c.rounds {
			row.worsen(o, 0)
		}
		assert.Equal(t, c.want, row, name)
	}
}

func TestDiscoveryCase_HasAllItsSetsInTheLookback(t *testing.T) {
	const sets = 100_000
	cloud := &harness.Cloud{DBS: dbs.New(nil, nil)}
	c := lookbackCase(sets)
	c.fill(cloud)
	tasks := cloud.DBS.ListedTasks(planID(0))
	require.Len(t, tasks, sets-withoutTask)
	assert.Less(t, time.Since(tasks[0].Created), time.Duration(c.lookback)*time.Hour)
	assert.True(t, slices.IsSortedFunc(tasks, func(a, b dbs.ListedTask) int { return a.Created.Compare(b.Created) }), "from the oldest to the newest")
}

func TestReport_LeavesOutTablesWithoutRows(t *testing.T) {
	var doc document
	doc.add(figure{Name: "fast", On: onWholeCores, Unit: "ms", Median: 10})
	var out bytes.Buffer
	doc.print(&out)
	assert.Equal(t, 1, strings.Count(out.String(), "╭"), out.String())
}
