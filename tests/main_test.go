package tests_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/fcruntime"
)

// executable is the function, built once for all tests.
var executable string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "increment-backup-download-")
		if err == nil {
			defer func() { _ = os.RemoveAll(folder) }()
			executable, err = harness.Build(context.Background(), folder, "./bootstrap")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// deploy starts the stand-ins and an instance of the function.
func deploy(t *testing.T, settings map[string]string) (*harness.Cloud, *harness.Instance) {
	t.Helper()
	cloud, err := harness.NewCloud()
	require.NoError(t, err)
	t.Cleanup(cloud.Close)
	return cloud, startInstance(t, cloud, settings)
}

func startInstance(t *testing.T, cloud *harness.Cloud, settings map[string]string) *harness.Instance {
	t.Helper()
	return startExecutable(t, cloud, executable, settings)
}

func startExecutable(t *testing.T, cloud *harness.Cloud, file string, settings map[string]string) *harness.Instance {
	t.Helper()
	instance, err := cloud.StartInstance(file, settings)
	require.NoError(t, err)
	t.Cleanup(func() {
		instance.Stop()
		if t.Failed() {
			t.Log(instance.Output.String())
		}
	})
	return instance
}

// summary is the answer of an invocation.
type summary struct {
	Events      int              `json:"events"`
	Created     int              `json:"created"`
	Failed      int              `json:"failed"`
	Ignored     int              `json:"ignored"`
	AlreadyDone int              `json:"alreadyDone"`
	Results     []map[string]any `json:"results"`
	DryRun      map[string]any   `json:"dryRun"`

	answer fcruntime.Answer
}

func invoke(t *testing.T, cloud *harness.Cloud, payload string) (summary, error) {
	t.Helper()
	answer, err := cloud.Invoke(t.Context(), []byte(payload))
	s := summary{answer: answer}
	if err == nil {
		require.NoError(t, json.Unmarshal(answer.Payload, &s), string(answer.Payload))
	}
	return s, err
}

// logOf returns the log of the instance up to the end of an invocation, and not
// before all of it is there.
func logOf(t *testing.T, instance *harness.Instance, s summary) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log, err := instance.LogOf(ctx, s.answer)
	require.NoError(t, err)
	return log
}

// failure asserts that an invocation failed with an error of the given type.
func failure(t *testing.T, err error, kind string) string {
	t.Helper()
	var failed *fcruntime.Error
	require.ErrorAs(t, err, &failed)
	require.Equal(t, kind, failed.Type)
	return failed.Message
}
