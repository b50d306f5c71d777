package events_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

func TestReadCommand(t *testing.T) {
	timer := func(d events.Discover) events.Command { return events.Command{Discover: d, Timer: true} }
	for file, want := range map[string]events.Command{
		"timer-without-payload.json": timer(events.Discover{}),
		"timer-null-payload.json":    timer(events.Discover{}),
		"timer-empty-payload.json":   timer(events.Discover{}),
		"timer-empty-object.json":    timer(events.Discover{}),
		"timer-discover.json":        timer(events.Discover{BackupPlanIDs: []string{"dbsqdss5tmh0001"}, LookbackHours: 720}),
		"discover.json":              {},
		"discover-all-fields.json": {Discover: events.Discover{
			BackupPlanIDs: []string{"dbsqdss5tmh0001", "dbsqdss5tmh0002"}, BackupSetIDs: []string{"mysql-bin.000058"},
			LookbackHours: 43_800, DryRun: true, RetryFailed: true,
		}},
		"check.json": {Check: true},
	} {
		t.Run(file, func(t *testing.T) {
			payload := commandFile(t, "command", file)
			for _, p := range [][]byte{payload, append([]byte("\xef\xbb\xbf \n"), payload...)} {
				got, is, err := events.ReadCommand(p)
				require.NoError(t, err)
				assert.True(t, is)
				assert.Equal(t, want, got)
			}
		})
	}
}

func TestReadCommand_NamesTheMistake(t *testing.T) {
	wants := map[string]string{
		"unknown-field.json":        `no field "BackupPlanId"`,
		"plans-not-a-list.json":     "BackupPlanIds must be a list",
		"plans-null.json":           "BackupPlanIds must be a list",
		"plans-empty.json":          "BackupPlanIds is empty",
		"plan-not-a-string.json":    "BackupPlanIds must be a list of strings",
		"plan-empty.json":           `BackupPlanIds has ""`,
		"plan-all-in-capitals.json": `BackupPlanIds has "ALL", which is not a backup plan ID`,
		"plan-all.json":             `BackupPlanIds has "all", which is not a backup plan ID`,
		"plan-with-a-slash.json":    `BackupPlanIds has "dbs/1"`,
		"sets-empty.json":           "BackupSetIds is empty",
		"set-empty.json":            `BackupSetIds has ""`,
		"set-null.json":             `BackupSetIds has ""`,
		"lookback-zero.json":        "LookbackHours must be a whole number from 1 to 43800",
		"lookback-too-long.json":    "LookbackHours must be",
		"lookback-text.json":        "LookbackHours must be",
		"lookback-fraction.json":    "LookbackHours must be",
		"lookback-null.json":        "LookbackHours must be",
		"dry-run-text.json":         "DryRun must be true or false",
		"retry-failed-null.json":    "RetryFailed must be true or false",
		"repeated-field.json":       `"DryRun" twice`,
		"discover-null.json":        "Discover must be an object",
		"discover-list.json":        "Discover must be an object",
		"check-true.json":           "Check must be {}",
		"check-with-a-field.json":   "Check must be {}",
		"both.json":                 "send one of them",
		"twice.json":                `"Discover" twice`,
		"with-another-member.json":  `the command has no field "DryRun": a command is {"Discover":{…}} or {"Check":{}} alone`,
		"timer-not-json.json":       "the timer's payload must be empty",
		"timer-list.json":           "the timer's payload must be empty",
		"timer-object.json":         "the timer's payload must be a string",
		"timer-number.json":         "the timer's payload must be a string",
		"timer-check.json":          "is for a person",
		"timer-unknown-field.json":  `the timer's payload: Discover has no field "DryRuns"`,
		"timer-backup-set.json":     `the timer's payload: the command has no field "BackupSetId"`,
		"timer-beside.json":         "in payload, as a string",
	}
	files, err := filepath.Glob("testdata/command/invalid/*.json")
	require.NoError(t, err)
	require.Len(t, files, len(wants), "each file has its mistake here")
	for file, want := range wants {
		t.Run(file, func(t *testing.T) {
			_, is, err := events.ReadCommand(commandFile(t, "command/invalid", file))
			assert.True(t, is, "no event either")
			var mistake *events.Error
			require.ErrorAs(t, err, &mistake)
			assert.Equal(t, events.CodeMalformed, mistake.Code)
			assert.Contains(t, mistake.Message, want)
		})
	}
}

func TestReadCommand_LeavesEventsAlone(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	more, err := filepath.Glob("testdata/console/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, append(files, more...))
	payloads := map[string]string{
		"empty":                  "",
		"text":                   "rubbish",
		"null":                   "null",
		"broken":                 `{"Discover":{`,
		"in an array":            `[{"Discover":{}}]`,
		"in a queue message":     `{"requestId":"1","messageId":"2","messageBody":"{\"Discover\":{}}","Discover":{}}`,
		"in a CloudEvent":        `{"specversion":"1.0","id":"1","data":{"Discover":{}},"Discover":{}}`,
		"in a member":            `{"data":{"Discover":{}}}`,
		"a timer without a name": `{"triggerTime":"2023-12-26T07:49:00Z"}`,
		"a check among others":   `{"check":"x","BackupSetId":"a","BackupSetName":"b"}`,
	}
	for _, file := range append(files, more...) {
		payloads[file] = string(commandFile(t, "..", file))
	}
	for name, payload := range payloads {
		t.Run(name, func(t *testing.T) {
			_, is, mistake := events.ReadCommand([]byte(payload))
			assert.False(t, is)
			require.NoError(t, mistake)
		})
	}
}

// Only a timer and a person can ask: a command that is delivered is no backup event.
func TestReadCommand_ACommandInAMessageIsRefused(t *testing.T) {
	for _, command := range []string{"discover.json", "check.json", "timer-empty-payload.json", "timer-discover.json"} {
		t.Run(command, func(t *testing.T) {
			payload, err := json.Marshal([]any{map[string]any{
				"specversion": "1.0", "id": "1", "source": "acs:mns", "type": "mns:Queue:SendMessage",
				"data": map[string]any{"messageId": "1", "messageBody": string(commandFile(t, "command", command))}}})
			require.NoError(t, err)
			_, is, mistake := events.ReadCommand(payload)
			assert.False(t, is)
			require.NoError(t, mistake)
			for event, refused := range (events.Decoder{}).Decode(payload) {
				require.Error(t, refused)
				assert.False(t, event.ByHand)
			}
		})
	}
}

func FuzzReadCommand(f *testing.F) {
	for _, pattern := range []string{"testdata/command/*.json", "testdata/command/invalid/*.json", "testdata/*.json"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			payload, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(payload)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		command, is, err := events.ReadCommand(payload)
		var mistake *events.Error
		switch {
		case !is:
			require.NoError(t, err)
			require.Equal(t, events.Command{}, command)
			return
		case err != nil:
			require.ErrorAs(t, err, &mistake)
			require.NotEmpty(t, mistake.Message)
			require.Equal(t, events.CodeMalformed, mistake.Code)
			return
		}
		if command.Check {
			require.Equal(t, events.Command{Check: true}, command, "no timer, no discovery")
		}
		for _, id := range command.Discover.BackupPlanIDs {
			require.True(t, events.IsBackupPlanID(id))
		}
		for _, id := range command.Discover.BackupSetIDs {
			require.NotEmpty(t, id)
			require.LessOrEqual(t, len(strings.ToValidUTF8(id, "")), 4*1024)
		}
		require.GreaterOrEqual(t, command.Discover.LookbackHours, 0)
		require.LessOrEqual(t, command.Discover.LookbackHours, events.MaxLookbackHours)
	})
}

func commandFile(t *testing.T, folder, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", folder, name))
	require.NoError(t, err)
	return content
}

func TestReadCommand_OfTheLargestTimerPayload(t *testing.T) {
	names := `"` + strings.Repeat("x", 100) + `"`
	payload := `{\"Discover\":{\"BackupSetIds\":[` + strings.ReplaceAll(strings.Repeat(names+",", 1200)+names, `"`, `\"`) + `]}}`
	_, is, err := events.ReadCommand([]byte(`{"triggerTime":"t","triggerName":"n","payload":"` + payload + `"}`))
	require.NoError(t, err)
	assert.True(t, is, "%d bytes", len(payload))
}

func TestReadCommand_BoundsNames(t *testing.T) {
	for payload, ok := range map[string]bool{
		`{"Discover":{"BackupPlanIds":["` + strings.Repeat("p", 128) + `"]}}`: true,
		`{"Discover":{"BackupPlanIds":["` + strings.Repeat("p", 129) + `"]}}`: false,
		`{"Discover":{"BackupSetIds":["` + strings.Repeat("s", 1024) + `"]}}`: true,
		`{"Discover":{"BackupSetIds":["` + strings.Repeat("s", 1025) + `"]}}`: false,
	} {
		_, _, err := events.ReadCommand([]byte(payload))
		assert.Equal(t, ok, err == nil, len(payload))
	}
}
