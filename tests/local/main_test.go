package main

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

func execute(t *testing.T, stdin string, arguments ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs harness.Output
	status = run(t.Context(), arguments, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

// decode reads the one document that -json prints.
func decode(t *testing.T, stdout string) document {
	t.Helper()
	var doc document
	require.NoError(t, json.Unmarshal([]byte(stdout), &doc), stdout)
	return doc
}

// The README shows how the run begins and ends, but for the line about the build, and
// for IDs that are new in each run.
func TestLocal_PrintsWhatTheReadmeShows(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := execute(t, "")
	require.Zero(t, status, stdout+stderr)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "go run ./tests/local\ngo test ./...\n```\n\n```text\n")
	require.True(t, found)
	shown, _, _ := strings.Cut(rest, "```")
	begins, ends, found := strings.Cut(shown, " … and a table of eight sample events\n")
	require.True(t, found)
	normal := func(text string) string {
		text = regexp.MustCompile(`(?m)^(Building|  \.\.\.) .*\n`).ReplaceAllString(text, "")
		text = regexp.MustCompile(`\b[0-9A-F]{32}\b`).ReplaceAllString(text, "ID")
		return regexp.MustCompile(`1jydacm\d{6}`).ReplaceAllString(text, "TASK")
	}
	printed := normal(stdout)
	assert.Contains(t, begins, "BACKUP SET")
	assert.Equal(t, normal(begins), printed[:min(len(printed), len(normal(begins)))])
	assert.Equal(t, ends, printed[max(0, len(printed)-len(ends)):])
}

func TestLocal_FitsIntoATerminal(t *testing.T) {
	t.Parallel()
	for name, arguments := range map[string]string{
		"samples":   "",
		"events":    "-events 60 -faults 0.2 -seed 7",
		"discovery": "-events 60 -discover -faults 0.1 -seed 7",
		"payload":   "-payload ../../events/testdata/console/queue-batch.json",
		"help":      "-h",
		"break":     "-break queue",
	} {
		_, stdout, _ := execute(t, "", strings.Fields(arguments)...)
		for line := range strings.Lines(stdout) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 100, "%s: %s", name, line)
		}
	}
}

func TestLocal_JSONForMachines(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := execute(t, "", "-json")
	require.Zero(t, status, stderr)
	doc := decode(t, stdout)
	assert.True(t, doc.OK)
	require.Len(t, doc.Discovered, len(planSets))
	for i, set := range doc.Discovered {
		assert.Equal(t, planSets[i].want, set.Discovery, set.BackupSetName)
		assert.Equal(t, set.Discovery == "announced", set.Outcome == outcomeFinished, set.BackupSetName)
	}
	require.Len(t, doc.Events, len(samples))
	for i, event := range doc.Events {
		assert.Equal(t, samples[i].want, event.Outcome)
	}
	assert.Equal(t, doc.Events[3].TaskID, doc.Events[4].TaskID, "the same event, the same task")
	assert.Len(t, doc.Results, 14, "eight of events, six ends of tasks")
	assert.Len(t, doc.DeadLetters, 2)
}

// Discovered sets end in a map; their rows must not change places from run to run.
func TestLocal_ShowsDiscoveredSetsInOrder(t *testing.T) {
	t.Parallel()
	for range 5 {
		status, stdout, stderr := execute(t, `{"Discover":{}}`, "-payload", "-", "-json")
		require.Zero(t, status, stderr)
		var names []string
		for _, event := range decode(t, stdout).Events {
			names = append(names, event.BackupSetName)
		}
		require.Equal(t, []string{"mysql-bin.000048", "mysql-bin.000049"}, names)
	}
}

func TestLocal_ShowsMessagesAndLogWhenAsked(t *testing.T) {
	t.Parallel()
	status, stdout, _ := execute(t, "", "-v", "-log")
	require.Zero(t, status)
	assert.Equal(t, 14, strings.Count(stdout, "\n  {\"specversion\":\"1.0\""), "results")
	assert.Contains(t, stdout, "2 messages\n   message from mns console\n")
	assert.Contains(t, stdout, `log: {"time":`)
	assert.Contains(t, stdout, "log: FC Invoke Start RequestId: ")

	_, stdout, _ = execute(t, "")
	assert.NotContains(t, stdout, "specversion")
	assert.NotContains(t, stdout, "log: ")
}

func TestLocal_DeliversAPayloadAsItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		payload string
		status  int
		says    []string
	}{
		"no event": {`{"key":"value"}`, 1, []string{"The invocation failed with EventError:", "this is neither a backup set nor a command",
			"Verdict: the function refused the payload"}},
		"an ignored event": {`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.000058","BackupStatus":"FILLING"}`, 0,
			[]string{"│ mysql-bin.000058 │ ignored",
				"Verdict: 1 event = 0 created + 0 failed + 1 ignored + 0 already done."}},
		"an array of rubbish": {`[1,2,{"BackupSetId":"a","BackupSetName":"b"}]`, 1, []string{
			"│       1 │            │ dead-lettered │", "│       2 │            │ dead-lettered │",
			"│       3 │ b          │ task finished │",
			"Verdict: 3 events = 1 created + 2 failed + 0 ignored + 0 already done."}},
		"refused, typed by hand": {`{"BackupSetId":"a","BackupSetName":"not-found"}`, 1,
			[]string{"│ failed  │ Param.NotFound", "Dead-letter queue increment-backup-dead-letters: 0 messages\n"}},
		"discovery": {`{"Discover":{}}`, 0,
			[]string{"Delivering 2 announcements", "│ mysql-bin.000048 │ task finished",
				"Verdict: 2 sets of 1 plan announced."}},
		"a dry run of discovery": {`{"Discover":{"DryRun":true}}`, 0,
			[]string{"Verdict: a dry run; 2 sets of 1 plan would be announced."}},
		"a check": {`{"Check":{}}`, 0, []string{"Verdict: ", " ok + ", " unproven + ", " untried."}},
		"a dry run": {`{"DryRun":true,"BackupSetId":"a","BackupSetName":"b"}`, 0,
			[]string{"Verdict: a dry run; nothing was called."}},
	} {
		status, stdout, stderr := execute(t, c.payload, "-payload", "-")
		assert.Equal(t, c.status, status, "%s: %s%s", name, stdout, stderr)
		for _, says := range c.says {
			assert.Contains(t, stdout, says, name)
		}
		if name == "no event" {
			for line := range strings.Lines(stdout) {
				assert.LessOrEqual(t, utf8.RuneCountInString(line), 101, line)
			}
		}
	}
	status, stdout, _ := execute(t, "", "-payload", "../../events/testdata/console/list-item.json", "-json")
	assert.Zero(t, status)
	assert.Equal(t, outcomeFinished, decode(t, stdout).Events[0].Outcome)

	status, _, stderr := execute(t, "", "-payload", "nowhere.json")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "nowhere.json")
}

// sums asserts that each line of the form "9 things = 5 a + 4 b" adds up, and returns
// what they count.
func sums(t *testing.T, stdout string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile(`(?m)^(\d+) ([a-z ]+) = (.*)$`).FindAllStringSubmatch(stdout, -1) {
		total := 0
		for part := range strings.SplitSeq(match[3], " + ") {
			n, err := strconv.Atoi(strings.Fields(part)[0])
			require.NoError(t, err)
			total += n
		}
		assert.Equal(t, match[1], strconv.Itoa(total), match[0])
		found = append(found, match[2])
	}
	return found
}

func TestLocal_GeneratesEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arguments string
		counts    []string
		says      []string
	}{
		"without faults": {"-events 300", []string{"events", "results"}, []string{
			"300 events = 300 created + 0 failed + 0 repeats"}},
		"with faults": {"-events 60 -faults 0.2 -seed 7", []string{"events", "results", "dead letters"}, []string{
			"seed 7", "60 events = ", "REDELIVERIES", "because delivery is at least once", "(source, id, type)",
			"Replay with: go run ./tests/local -events 60 -faults 0.2 -seed 7"}},
		"discovered": {"-events 60 -discover -faults 0.1 -seed 7", []string{"backup sets", "results"}, []string{
			"60 backup sets = ", "TIMER RUNS", "Replay with: go run ./tests/local -events 60 -discover -faults 0.1 -seed 7"}},
	} {
		status, stdout, stderr := execute(t, "", strings.Fields(c.arguments)...)
		require.Zero(t, status, "%s: %s%s", name, stdout, stderr)
		assert.Equal(t, c.counts, sums(t, stdout), name)
		for _, says := range append(c.says, "none lost, no token with two tasks") {
			assert.Contains(t, stdout, says, name)
		}
		assert.Empty(t, stderr, "a progress bar is for terminals")
	}
	status, stdout, stderr := execute(t, "", "-events", "300", "-json")
	require.Zero(t, status, stderr)
	assert.Equal(t, 300, decode(t, stdout).Report.Tasks)
	assert.Equal(t, 1, strings.Count(stdout, "\n"))
}

// A console is not silent for longer than two seconds.
func TestConsole_SaysWhatTakesSoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var printed harness.Output
		c := &console{out: &printed, silence: 1500 * time.Millisecond}
		go c.watch(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, printed.String(), "nothing is going on")

		done := c.during(func() string { return "building" })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, "  ... 2 s: building\n", printed.String())
		within := c.during(func() string { return "linking" })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, "  ... 2 s: building\n  ... 2 s: linking\n", printed.String())
		within()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Contains(t, printed.String(), "linking\n  ... ")
		require.Equal(t, 2, strings.Count(printed.String(), ": building"))
		done()
		before := printed.String()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, before, printed.String())
	})
}

// A program that reads the output sees a line of progress every 15 seconds at most.
func TestLocal_IsQuietIntoAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var printed harness.Output
		l := newLocal(options{}, nil, &printed, io.Discard)
		go l.notes.watch(t.Context())
		defer l.notes.during(func() string { return strings.Repeat("building ", 20) })()
		time.Sleep(time.Minute)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(printed.String()), "\n")
		assert.LessOrEqual(t, len(lines), 4)
		assert.GreaterOrEqual(t, len(lines), 3)
		assert.LessOrEqual(t, len(lines[0]), 100)
	})
}

func TestLocal_SaysWhatIsWrongWithItsFlags(t *testing.T) {
	t.Parallel()
	for arguments, says := range map[string]string{
		"-nonsense":                  "nonsense",
		"something":                  `"something" is not a flag`,
		"-events 0":                  "give a number from 1",
		"-events x":                  "invalid value",
		"-events 5 -payload -":       "give -events or -payload, not both",
		"-faults 0.5":                "-faults needs -events",
		"-discover":                  "-discover needs -events",
		"-events 5 -faults 2":        "give a share from 0 to 0.5",
		"-events 5 -seed 1":          "-seed needs -faults",
		"-events 99999999 -json":     "1000000",
		"-events 5 -faults -1":       "give a share",
		"-payload - -events 5 -keep": "give -events or -payload, not both",
		"-keep -json -events 5":      "delivers no samples",
		"-payload=":                  "name a file",
		"-break it":                  "give one of dbs-permission, hang, mns-permission, poison, queue, stopped, throttle",
		"-break queue -keep":         "-break takes no other flag but -log",
		"-break queue -v":            "-break takes no other flag but -log",
	} {
		status, stdout, stderr := execute(t, "", strings.Fields(arguments)...)
		assert.Equal(t, 2, status, arguments)
		assert.Contains(t, stderr, says, arguments)
		assert.Contains(t, stderr, "-h for help", arguments)
		assert.Empty(t, stdout)
	}
	status, stdout, _ := execute(t, "", "-h")
	assert.Zero(t, status)
	for _, name := range []string{"-payload", "-events", "-discover", "-faults", "-seed", "-break", "-log", "-v", "-json",
		"-keep", "topics", "V4 signature", "some minutes"} {
		assert.Contains(t, stdout, name)
	}
	for name := range breakages() {
		assert.Contains(t, stdout, name)
	}
}
