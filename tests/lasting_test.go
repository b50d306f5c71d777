package tests_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	mnsstandin "increment-backup-download/tests/standin/mns"
)

// Faults that stay: what they must not hold up, drown or swallow.

func TestFunction_DeadLettersOnceWhileTheResultQueueIsDown(t *testing.T) {
	t.Parallel()
	const bad = 1500
	cloud, _ := deploy(t, nil)
	cloud.Timeout = 3 * time.Second
	require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
	down := standin.Fault{Kind: standin.Refuse, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"}
	cloud.MNSFaults.SetPlan(standin.Choose(
		func(r *http.Request) bool { return mnsstandin.QueueOf(r) == harness.ResultQueue }, standin.Always(down)))
	payload := harness.BatchOf("bad-", bad, func(i int) string { return fmt.Sprintf("rubbish %d", i) })
	for range 3 {
		_, err := invoke(t, cloud, payload)
		assert.Contains(t, failure(t, err, "RedeliveryError"), "of 1500 events are open")
	}
	assert.Len(t, cloud.MNS.Messages(harness.DeadLetterQueue), bad)

	cloud.MNSFaults.SetPlan(nil)
	cloud.Timeout = time.Minute
	s, err := invoke(t, cloud, payload)
	require.NoError(t, err)
	assert.Equal(t, bad, s.Failed+s.AlreadyDone)
	assert.Len(t, cloud.MNS.Messages(harness.DeadLetterQueue), bad)
	results, err := cloud.Results()
	require.NoError(t, err)
	distinct := make(map[[3]string]bool)
	for _, r := range results {
		distinct[r.Identity()] = true
	}
	assert.Len(t, distinct, bad, "each failure has its result in the end")
}

func TestFunction_FailingEventsAtTheHeadHoldNoOtherUp(t *testing.T) {
	t.Parallel()
	const concurrency, good = 4, 400
	for name, fault := range map[string]standin.Fault{
		"out of service":     {Kind: standin.Refuse, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"},
		"a code that stays":  {Kind: standin.Refuse, Status: http.StatusBadRequest, Code: "UnknownToEveryone"},
		"a gateway's answer": {Kind: standin.BadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, _ := deploy(t, map[string]string{"CONCURRENCY": strconv.Itoa(concurrency)})
			cloud.Timeout = 15 * time.Second
			require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
			failing := func(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "failing-") }
			cloud.DBSFaults.SetPlan(standin.Choose(failing, standin.Always(fault)))
			payload := harness.BatchOf("event-", concurrency+good, func(i int) string {
				if i < concurrency {
					return harness.ListItem("t4yh0g0g0001", fmt.Sprintf("failing-%d", i))
				}
				return harness.ListItem("t4yh0g0g0001", fmt.Sprintf("mysql-bin.%06d", i))
			})
			done := make(chan error, 1)
			started := time.Now()
			go func() {
				_, err := cloud.Invoke(t.Context(), []byte(payload))
				done <- err
			}()
			require.Eventually(t, func() bool { return len(cloud.DBS.Tasks()) == good }, 5*time.Second, time.Millisecond,
				"held up for %v", time.Since(started))
			assert.Contains(t, failure(t, <-done, "RedeliveryError"),
				fmt.Sprintf("%d of %d events are open", concurrency, concurrency+good))
			assert.Len(t, cloud.MNS.Messages(harness.ResultQueue), good)
		})
	}
}

// The answer to as many events as a payload may hold leaves before the deadline while
// MNS hangs: with whole cores, and with the CPU quota of the deployed size.
func TestFunction_AnswersForTenThousandEventsBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	const events = 10_000
	for name, c := range map[string]struct {
		timeout time.Duration
		quota   bool
	}{
		"whole cores": {6 * time.Second, false},
		"0.05 CPU":    {40 * time.Second, true}, // reading and signing so much takes some twenty
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, err := harness.NewCloud()
			require.NoError(t, err)
			t.Cleanup(cloud.Close)
			cloud.Timeout = c.timeout
			file := executable
			if c.quota {
				group, err := harness.NewGroup("deadline")
				if err != nil {
					t.Skip(err)
				}
				t.Cleanup(func() { assert.NoError(t, group.Remove()) })
				file, err = group.Wrap(t.TempDir(), executable)
				require.NoError(t, err)
			}
			startExecutable(t, cloud, file, nil)
			require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
			cloud.MNSFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Hang}))
			started := time.Now()
			_, err = invoke(t, cloud, harness.Batch(events))
			took := time.Since(started)
			assert.Contains(t, failure(t, err, "RedeliveryError"), "of 10000 events are open")
			assert.Less(t, took, cloud.Timeout)
			t.Logf("answered after %v of %v", took, cloud.Timeout)
		})
	}
}
