package main

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun_ChecksItsFlagsBeforeItMeasures(t *testing.T) {
	for name, c := range map[string]struct {
		arguments      []string
		status         int
		stdout, stderr string
	}{
		"help":               {[]string{"-h"}, 0, "go run ./tests/bench", ""},
		"help lists steps":   {[]string{"-h"}, 0, "\n  growth, deployed\n", ""},
		"unknown flag":       {[]string{"-fast"}, 2, "", "-fast"},
		"argument":           {[]string{"-quick", "fast"}, 2, "", `"fast" is not a flag`},
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
		"tls":    {"TLS, deployed"},
		"growth": {"growth", "growth, deployed"},
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
	assert.Equal(t, 1, run(ctx, []string{"-run", "sizes"}, &stdout, &stderr))
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
		"ratio within":     {figure{Median: 15, Of: 10, Goal: 1.5}, false},
		"ratio beyond":     {figure{Median: 16, Of: 10, Goal: 1.5}, true},
		"median within":    {figure{Median: 11, Goal: 11}, false},
		"median beyond":    {figure{Median: 11.1, Goal: 11}, true},
		"without a goal":   {figure{Median: 16, Of: 10}, false},
		"was not measured": {figure{Goal: 1.35, Why: "no control group"}, false},
	} {
		assert.Equal(t, c.missed, c.figure.judged().Missed, name)
	}
}

func TestReport_SaysWhereAFigureIsTakenAndWhatFallsShort(t *testing.T) {
	var doc document
	doc.add(figure{Name: "fast", On: onWholeCores, Unit: "ms", Median: 10, Yardstick: "ideal", Of: 10, Goal: 1.05},
		figure{Name: "slow", On: onDeployed, Unit: "ms", Median: 30, Yardstick: "ideal", Of: 10, Goal: 1.35},
		figure{Name: "unknown", On: onDeployed, Why: "no control group can be made here"})
	doc.Notes = []string{"What 0.05 CPU is."}
	var out bytes.Buffer
	doc.print(&out)
	assert.Regexp(t, `fast +│ whole cores +│ 10.00 ms .* 1.00 +│ 1.05 +│`, out.String())
	assert.Regexp(t, `slow +│ 0.05 CPU +│ 30.00 ms .* 3.00 +│ 1.35 MISSED`, out.String())
	assert.Regexp(t, `unknown +│ 0.05 CPU +│ not measured: no control group can be made here`, out.String())
	assert.Contains(t, out.String(), "What 0.05 CPU is.")
}
