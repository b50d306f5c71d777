package tests_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// run runs the executable with exactly the given environment.
func run(t *testing.T, environment []string, arguments ...string) (status int, output string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), executable, arguments...)
	command.Env = append([]string{}, environment...) // nil would be the test's own
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
	}
	return command.ProcessState.ExitCode(), string(text)
}

func TestStart_OutsideFunctionComputeSaysWhatItIs(t *testing.T) {
	status, output := run(t, []string{"PATH=/bin"})
	assert.Equal(t, 2, status)
	assert.Contains(t, output, "Alibaba Cloud Function Compute")
	assert.Contains(t, output, "go run ./tests/local")

	status, help := run(t, nil, "-h")
	assert.Zero(t, status)
	assert.Contains(t, help, "go run ./tests/local")
	assert.Contains(t, help, "RESULT_QUEUE")

	status, output = run(t, nil, "deploy")
	assert.Equal(t, 2, status)
	assert.Contains(t, output, "bootstrap takes -h, -check or no argument")
}

func TestStart_AWrongSettingEndsItWithAllMistakesNamed(t *testing.T) {
	status, output := run(t, []string{
		"FC_RUNTIME_API=127.0.0.1:1", "FC_REGION=cn-hangzhou", "FC_ACCOUNT_ID=1234567890123456",
		"DEAD_LETTER_QUEUE=one", "MNS_ENDPOINT=http://mns.example.com", "DBS_ENDPOINT=%", "BACKUP_SET_DATA_FORMAT=XML",
		"CONCURRENCY=0",
	})
	assert.Equal(t, 1, status)
	names := []string{"RESULT_QUEUE", "MNS_ENDPOINT", "DBS_ENDPOINT", "BACKUP_SET_DATA_FORMAT", "CONCURRENCY"}
	for _, name := range names {
		assert.Contains(t, output, name)
	}
	assert.NotContains(t, output, "goroutine")
	assert.NotContains(t, output, "panic")

	status, output = run(t, []string{
		"FC_RUNTIME_API=127.0.0.1:1", "FC_REGION=cn-hangzhou", "FC_ACCOUNT_ID=1234567890123456",
		"RESULT_QUEUE=one", "DEAD_LETTER_QUEUE=one",
	})
	assert.Equal(t, 1, status)
	assert.Contains(t, output, "two different queues")
}
