package tests_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	mnsstandin "increment-backup-download/tests/standin/mns"
)

var (
	chaosSeed   = flag.Uint64("chaos.seed", 0, "replay the chaos test with this seed")
	chaosEvents = flag.Int("chaos.events", 2000, "events of the chaos test")
)

// A fifth of all calls to DBS and MNS fails, the process is killed again and
// again, and in the end every event has its outcome and no token two tasks.
func TestChaos(t *testing.T) {
	cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "warn"})
	cloud.Timeout = 3 * time.Second
	events := *chaosEvents
	if harness.RaceEnabled() {
		events /= 4 // the race detector makes the process that much slower
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("replay with the same -race, or without: go test ./tests -v -run TestChaos -chaos.seed %d -chaos.events %d",
		seed, *chaosEvents)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	report, err := harness.Scenario{Events: events, BatchSize: 200, Seed: seed, Mixed: true, FaultRate: 0.2, Kills: true}.
		Run(ctx, cloud, instance)
	t.Log(report)
	require.NoError(t, err)
	assert.Empty(t, report.Violations)
	assert.Positive(t, report.Kills)
	assert.Positive(t, report.Faults)
}

// The process is stopped at each step on the way of an event; the redelivery
// finishes what was open.
func TestCrashPoints(t *testing.T) {
	// once meets the nth request that a filter takes with a fault.
	once := func(n int32, takes func(*http.Request) bool, fault standin.Fault) standin.Plan {
		var seen atomic.Int32
		return func(r *http.Request) *standin.Fault {
			if takes(r) && seen.Add(1) == n {
				return &fault
			}
			return nil
		}
	}
	anything := func(*http.Request) bool { return true }
	to := func(queue string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/"+queue+"/") }
	}
	for name, arrange := range map[string]func(c *harness.Cloud, kill func()){
		"before the DBS call": func(c *harness.Cloud, kill func()) {
			c.DBSFaults.SetPlan(once(5, anything, standin.Fault{Kind: standin.Hang, Then: kill}))
		},
		"after DBS committed, before its answer": func(c *harness.Cloud, kill func()) {
			c.DBSFaults.SetPlan(once(5, anything, standin.Fault{Kind: standin.HangAfter, Then: kill}))
		},
		"before the first results are published": func(c *harness.Cloud, kill func()) {
			c.MNSFaults.SetPlan(once(1, to(harness.ResultQueue), standin.Fault{Kind: standin.Hang, Then: kill}))
		},
		"after the first results are published": func(c *harness.Cloud, kill func()) {
			c.MNSFaults.SetPlan(once(1, to(harness.ResultQueue), standin.Fault{Kind: standin.HangAfter, Then: kill}))
		},
		"before the last results are published": func(c *harness.Cloud, kill func()) {
			c.MNSFaults.SetPlan(once(3, to(harness.ResultQueue), standin.Fault{Kind: standin.Hang, Then: kill}))
		},
		"before a dead letter is published": func(c *harness.Cloud, kill func()) {
			c.MNSFaults.SetPlan(once(1, to(harness.DeadLetterQueue), standin.Fault{Kind: standin.Hang, Then: kill}))
		},
		"after a dead letter is published, before its result": func(c *harness.Cloud, kill func()) {
			c.MNSFaults.SetPlan(once(1, to(harness.DeadLetterQueue), standin.Fault{Kind: standin.HangAfter, Then: kill}))
		},
		"before the answer to Function Compute": func(c *harness.Cloud, kill func()) {
			var first atomic.Bool
			c.Runtime.BeforeAnswer = func() bool {
				if first.CompareAndSwap(false, true) {
					kill()
					return false
				}
				return true
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, err := harness.NewCloud()
			require.NoError(t, err)
			t.Cleanup(cloud.Close)
			var instance *harness.Instance
			var ready sync.WaitGroup
			ready.Add(1)
			var kills atomic.Int32
			arrange(cloud, func() {
				ready.Wait()
				instance.Kill()
				kills.Add(1)
			})
			instance = startInstance(t, cloud, nil)
			ready.Done()
			report, err := harness.Scenario{Events: 48, Seed: 1, Mixed: true}.Run(t.Context(), cloud, instance)
			require.NoError(t, err)
			assert.Empty(t, report.Violations)
			assert.EqualValues(t, 1, kills.Load())
			assert.Equal(t, 1, report.FailedDeliveries)
		})
	}
}

func TestFunction_RedeliveryDoesOnlyWhatIsMissing(t *testing.T) {
	cloud, _ := deploy(t, nil)
	cloud.Timeout = 4 * time.Second
	require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
	cloud.DBSFaults.SetPlan(func(r *http.Request) *standin.Fault {
		if strings.Contains(r.URL.RawQuery, "mysql-bin.000050") {
			return &standin.Fault{Kind: standin.Refuse, Status: 500, Code: "InternalError"}
		}
		return nil
	})
	_, err := invoke(t, cloud, harness.Batch(100))
	message := failure(t, err, "RedeliveryError")
	assert.Contains(t, message, "1 of 100 events are open")
	assert.Contains(t, message, "event event-50 (mysql-bin.000050): DBS InternalError (HTTP 500)")
	require.Len(t, cloud.MNS.Messages(harness.ResultQueue), 99, "published before failing")

	calls, _ := cloud.DBS.Calls("")
	cloud.DBSFaults.SetPlan(nil)
	cloud.Timeout = time.Minute
	s, err := invoke(t, cloud, harness.Batch(100))
	require.NoError(t, err)
	assert.Equal(t, 99, s.AlreadyDone)
	after, _ := cloud.DBS.Calls("")
	assert.Equal(t, 1, after-calls, "DBS calls")
	assert.Len(t, cloud.MNS.Messages(harness.ResultQueue), 100)
}

func TestFunction_AnOperatorFaultStopsTheBatch(t *testing.T) {
	t.Run("no permission", func(t *testing.T) {
		policy, err := standin.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":"mns:*","Resource":"*"}]}`))
		require.NoError(t, err)
		cloud, err := harness.NewCloudWithPolicy(policy)
		require.NoError(t, err)
		t.Cleanup(cloud.Close)
		startInstance(t, cloud, nil)
		_, err = invoke(t, cloud, harness.Batch(500))
		message := failure(t, err, "OperatorFaultError")
		assert.Contains(t, message, "Request.Forbidden")
		assert.Contains(t, message, "dbs:CreateIncrementBackupSetDownload")
		assert.Contains(t, message, "500 of 500 events are open")
		calls, _ := cloud.DBS.Calls("")
		assert.LessOrEqual(t, calls, 16, "only those in flight")
		assert.Empty(t, cloud.MNS.Messages(harness.DeadLetterQueue))
		assert.Less(t, len(message), 4500)
	})
	t.Run("no result queue", func(t *testing.T) {
		cloud, _ := deploy(t, nil)
		cloud.MNS.RemoveQueue(harness.ResultQueue)
		_, err := invoke(t, cloud, harness.Batch(2000))
		message := failure(t, err, "OperatorFaultError")
		assert.Contains(t, message, "QueueNotExist")
		assert.Contains(t, message, harness.ResultQueue)
		calls, _ := cloud.DBS.Calls("")
		assert.Less(t, calls, 500, "those that were on the way when the first batch of results was refused")
	})
}

func TestFunction_DeadLettersOnceWhileTheResultQueueIsDown(t *testing.T) {
	t.Parallel()
	const bad = 1500
	cloud, _ := deploy(t, nil)
	cloud.Timeout = 6 * time.Second
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
			go func() {
				_, err := cloud.Invoke(t.Context(), []byte(payload))
				done <- err
			}()
			require.Eventually(t, func() bool { return len(cloud.DBS.Tasks()) == good }, 12*time.Second, time.Millisecond)
			assert.Contains(t, failure(t, <-done, "RedeliveryError"),
				fmt.Sprintf("%d of %d events are open", concurrency, concurrency+good))
			assert.Len(t, cloud.MNS.Messages(harness.ResultQueue), good)
		})
	}
}
