package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin/mns"
)

func execute(t *testing.T, stdin string, arguments ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), arguments, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

// The README shows what the run prints, but for IDs that are new in each run.
func TestLocal_PrintsWhatTheReadmeShows(t *testing.T) {
	status, stdout, stderr := execute(t, "")
	require.Zero(t, status, stderr)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "go run ./tests/local\n```\n\n```text\n")
	require.True(t, found)
	shown, _, _ := strings.Cut(rest, "```")
	normal := func(text string) []string {
		text = regexp.MustCompile(`\b[0-9A-F]{32}\b`).ReplaceAllString(text, "ID")
		text = regexp.MustCompile(`1jydacm\d{6}`).ReplaceAllString(text, "TASK")
		return strings.Split(text, "\n")
	}
	printed := normal(stdout)
	for _, line := range normal(shown) {
		assert.Contains(t, printed, line)
	}
	assert.GreaterOrEqual(t, strings.Count(shown, "\n"), 12)
	assert.Contains(t, stdout, "Result queue increment-backup-results: 6 messages")
	assert.Contains(t, stdout, "Dead-letter queue increment-backup-dead-letters: 2 messages\n   message from mns console\n")
}

func TestLocal_JSONForMachines(t *testing.T) {
	status, stdout, stderr := execute(t, "", "-json")
	require.Zero(t, status, stderr)
	var doc document
	require.NoError(t, json.Unmarshal([]byte(stdout), &doc))
	assert.True(t, doc.OK)
	require.Len(t, doc.Events, len(samples))
	for i, event := range doc.Events {
		assert.Equal(t, samples[i].want, event.Outcome)
	}
	assert.Equal(t, doc.Events[3].TaskID, doc.Events[4].TaskID, "the same event, the same task")
	assert.Len(t, doc.Results, 6)
	assert.Len(t, doc.DeadLetters, 2)
}

func TestLocal_DeliversAPayloadAsItIs(t *testing.T) {
	status, stdout, _ := execute(t, `{"key":"value"}`, "-payload", "-")
	assert.Equal(t, 1, status)
	assert.Contains(t, stdout, "The invocation failed with EventError:")
	assert.Contains(t, stdout, "BackupSetId is missing")

	status, stdout, _ = execute(t, "", "-payload", "../../events/testdata/console/list-item.json")
	assert.Zero(t, status)
	assert.Contains(t, stdout, `"created": 1`)

	status, stdout, _ = execute(t, `{"BackupSetId":"a","BackupSetName":"not-found"}`, "-payload", "-", "-json")
	assert.Equal(t, 1, status)
	assert.Contains(t, stdout, `"outcome":"failed"`)

	status, _, stderr := execute(t, "", "-payload", "nowhere.json")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "nowhere.json")
}

func TestLocal_GeneratesEvents(t *testing.T) {
	status, stdout, stderr := execute(t, "", "-events", "300", "-json")
	require.Zero(t, status, stderr)
	var doc document
	require.NoError(t, json.Unmarshal([]byte(stdout), &doc))
	assert.Equal(t, 300, doc.Report.Tasks)

	status, stdout, stderr = execute(t, "", "-events", "60", "-faults", "0.2", "-seed", "7")
	require.Zero(t, status, stderr)
	assert.Contains(t, stdout, "seed 7")
	assert.Contains(t, stdout, "REDELIVERIES")
	assert.Contains(t, stdout, "ATTEMPTS AT DBS")
	assert.Contains(t, stdout, "Replay with: go run ./tests/local -events 60 -faults 0.2 -seed 7")
}

func TestLocal_KeepsTheStandInsUntilInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := newPipe()
	done := make(chan int)
	go func() { done <- run(ctx, []string{"-keep", "-json"}, strings.NewReader(""), writer, &bytes.Buffer{}) }()
	var line string
	select {
	case line = <-reader:
	case status := <-done:
		t.Fatalf("ended with status %d", status)
	}
	var access map[string]string
	require.NoError(t, json.Unmarshal([]byte(line), &access))
	for _, name := range []string{"mns", "dbs", "accessKeyId", "accessKeySecret", "securityToken"} {
		assert.NotEmpty(t, access[name], name)
	}
	assert.Len(t, access, 5)
	// Anybody's client may do more than the function's role.
	client := sdk.NewAliMNSClientWithConfig(sdk.AliMNSClientConfig{EndPoint: mns.Endpoint(access["mns"]),
		AccessKeyId: access["accessKeyId"], AccessKeySecret: access["accessKeySecret"], Token: access["securityToken"]})
	require.NoError(t, sdk.NewMNSQueueManager(client).CreateSimpleQueue("mine"))
	_, err := sdk.NewMNSQueue("mine", client).SendMessage(sdk.MessageSendRequest{MessageBody: "x", Priority: 8})
	require.NoError(t, err)
	select {
	case <-done:
		t.Fatal("ended by itself")
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	assert.Zero(t, <-done)
}

func TestLocal_KeepsTheStandInsBehindARunToo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	printed := &lockedBuffer{}
	done := make(chan int)
	go func() { done <- run(ctx, []string{"-keep"}, strings.NewReader(""), printed, printed) }()
	require.Eventually(t, func() bool { return strings.Contains(printed.String(), "nothing more is delivered") }, time.Minute, 10*time.Millisecond)
	assert.Contains(t, printed.String(), "Every event ended as it should")
	assert.Regexp(t, `MNS for its Go SDK  http://127\.0\.0\.1:\d+/mns\.local\n`, printed.String())
	cancel()
	assert.Zero(t, <-done)
}

// lockedBuffer is written and read by different goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newPipe returns what is written as it comes.
func newPipe() (<-chan string, writerFunc) {
	lines := make(chan string, 10)
	return lines, func(p []byte) (int, error) {
		lines <- string(p)
		return len(p), nil
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestLocal_SaysWhatIsWrongWithItsFlags(t *testing.T) {
	for arguments, says := range map[string]string{
		"-nonsense":                  "nonsense",
		"something":                  `"something" is not a flag`,
		"-events 0":                  "give a number from 1",
		"-events x":                  "invalid value",
		"-events 5 -payload -":       "exclude each other",
		"-faults 0.5":                "-faults goes with -events",
		"-events 5 -faults 2":        "give a share from 0 to 0.5",
		"-events 5 -seed 1":          "-seed goes with -faults",
		"-events 99999999 -json":     "1000000",
		"-events 5 -faults -1":       "give a share",
		"-payload - -events 5 -keep": "exclude each other",
		"-keep -json -events 5":      "delivers nothing",
		"-payload=":                  "name a file",
	} {
		status, stdout, stderr := execute(t, "", strings.Fields(arguments)...)
		assert.Equal(t, 2, status, arguments)
		assert.Contains(t, stderr, says, arguments)
		assert.Contains(t, stderr, "-h for help", arguments)
		assert.Empty(t, stdout)
	}
	status, stdout, _ := execute(t, "", "-h")
	assert.Zero(t, status)
	for _, name := range []string{"-payload", "-events", "-faults", "-seed", "-json", "-keep"} {
		assert.Contains(t, stdout, name)
	}
}
