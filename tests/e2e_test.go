package tests_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
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
	cloud, err := harness.NewCloud(nil)
	require.NoError(t, err)
	t.Cleanup(cloud.Close)
	instance, err := cloud.StartInstance(executable, settings)
	require.NoError(t, err)
	t.Cleanup(func() {
		instance.Stop()
		if t.Failed() {
			t.Log(instance.Output.String())
		}
	})
	return cloud, instance
}

// summary is the answer of an invocation.
type summary struct {
	Events      int `json:"events"`
	Created     int `json:"created"`
	Failed      int `json:"failed"`
	Ignored     int `json:"ignored"`
	AlreadyDone int `json:"alreadyDone"`
	Results     []map[string]any
}

func invoke(t *testing.T, cloud *harness.Cloud, payload string) (summary, error) {
	t.Helper()
	answer, err := cloud.Invoke(t.Context(), []byte(payload))
	var s summary
	if err == nil {
		require.NoError(t, json.Unmarshal(answer.Payload, &s), string(answer.Payload))
	}
	return s, err
}

func TestFunction_CreatesATaskForEachEventOfABatch(t *testing.T) {
	cloud, _ := deploy(t, nil)
	report, err := harness.Scenario{Events: 250, Seed: 1, Mixed: true}.Run(t.Context(), cloud, nil)
	require.NoError(t, err)
	assert.Empty(t, report.Violations)
	assert.Zero(t, report.FailedDeliveries)
	t.Log(report)
}

func TestFunction_SurvivesChaos(t *testing.T) {
	cloud, instance := deploy(t, nil)
	cloud.Timeout = 3 * time.Second
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	report, err := harness.Scenario{Events: 3000, Seed: seed, Mixed: true, FaultRate: 0.2, Kills: true}.Run(t.Context(), cloud, instance)
	t.Log(report)
	require.NoError(t, err)
	assert.Empty(t, report.Violations)
}
