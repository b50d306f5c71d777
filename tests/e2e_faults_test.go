package tests_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
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

func TestFunction_AnswersBeforeTheDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		dbs, mns *standin.Fault
	}{
		"DBS hangs":  {&standin.Fault{Kind: standin.Hang}, nil},
		"MNS hangs":  {nil, &standin.Fault{Kind: standin.Hang}},
		"both hang":  {&standin.Fault{Kind: standin.HangAfter}, &standin.Fault{Kind: standin.HangAfter}},
		"DBS is out": {&standin.Fault{Kind: standin.Refuse, Status: 503, Code: "ServiceUnavailable"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, _ := deploy(t, nil)
			cloud.Timeout = 10 * time.Second // of which one is for answering, which a busy machine needs
			require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
			if c.dbs != nil {
				cloud.DBSFaults.SetPlan(standin.Always(*c.dbs))
			}
			if c.mns != nil {
				cloud.MNSFaults.SetPlan(standin.Always(*c.mns))
			}
			_, err := invoke(t, cloud, harness.Batch(40))
			assert.Contains(t, failure(t, err, "RedeliveryError"), "of 40 events are open")

			cloud.DBSFaults.SetPlan(nil)
			cloud.MNSFaults.SetPlan(nil)
			cloud.Timeout = time.Minute
			_, err = invoke(t, cloud, harness.Batch(40))
			require.NoError(t, err)
			assert.Len(t, cloud.DBS.Tasks(), 40)
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
		assert.Contains(t, message, "allow dbs:CreateIncrementBackupSetDownload")
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
		assert.Contains(t, failure(t, err, "OperatorFaultError"), "queue "+harness.ResultQueue+" does not exist")
		calls, _ := cloud.DBS.Calls("")
		assert.Less(t, calls, 500, "those that were on the way when the first batch of results was refused")
	})
}

// An instance is frozen between invocations, and its idle connections are closed
// meanwhile.
func TestFunction_SurvivesFreezeAndThaw(t *testing.T) {
	for name, reset := range map[string]bool{"closed by FIN": false, "closed by RST": true} {
		t.Run(name, func(t *testing.T) {
			cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "debug"})
			var last summary
			for round := range 20 {
				if round > 0 {
					require.NoError(t, instance.Process().Signal(syscall.SIGSTOP))
					toDBS, toMNS := 0, 0
					require.Eventually(t, func() bool {
						toDBS += cloud.DBSServer.CloseIdle(reset)
						toMNS += cloud.MNSServer.CloseIdle(reset)
						return toDBS > 0 && toMNS > 0 && cloud.DBSServer.Connections().Open+cloud.MNSServer.Connections().Open == 0
					}, 10*time.Second, time.Millisecond)
					// The thaw comes with the next batch: the process wakes up to both
					// the payload and the news of its connections.
					time.AfterFunc(5*time.Millisecond, func() { _ = instance.Process().Signal(syscall.SIGCONT) })
				}
				// Other IDs in each round, or there would be nothing to do.
				payload := strings.ReplaceAll(harness.Batch(100), "event-", fmt.Sprintf("round-%d-", round))
				s, err := invoke(t, cloud, payload)
				require.NoError(t, err)
				require.Equal(t, 100, s.Created)
				last = s
				calls, _ := cloud.DBS.Calls("")
				require.Equal(t, (round+1)*100, calls, "no call is repeated")
				require.Len(t, cloud.MNS.Messages(harness.ResultQueue), (round+1)*100, "no result is published twice")
			}
			log := logOf(t, instance, last)
			assert.NotContains(t, log, `"error"`)
			assert.NotContains(t, log, "calling DBS again")
		})
	}
}

// Two invocations overlap, each with credentials of its own.
func TestFunction_SignsWithTheCredentialsOfEachInvocation(t *testing.T) {
	cloud, _ := deploy(t, nil)
	cloud.Runtime.Concurrency = 2
	cloud.DBS.Delay = 5 * time.Millisecond
	first, second := standin.NewKey(), standin.NewKey()
	cloud.Keys.Add(first)
	cloud.Keys.Add(second)
	cloud.Keys.Remove(cloud.Key.ID)
	var wait sync.WaitGroup
	for i, key := range []standin.Key{first, second} {
		wait.Go(func() {
			one := *cloud
			one.Key = key
			_, err := one.Invoke(t.Context(), []byte(strings.ReplaceAll(harness.Batch(200), "event-", fmt.Sprintf("of-%d-", i))))
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	assert.Len(t, cloud.DBS.Tasks(), 400)
	keyOf := func(id string) string {
		if strings.HasPrefix(id, "of-0-") {
			return first.ID
		}
		return second.ID
	}
	var order []string
	for _, task := range cloud.DBS.Tasks() {
		assert.Equal(t, keyOf(task.ClientToken), task.AccessKeyID)
		order = append(order, task.AccessKeyID)
	}
	assert.Greater(t, len(slices.Compact(order)), 2, "the invocations did not overlap")
	for _, m := range cloud.MNS.Messages(harness.ResultQueue) {
		var r harness.Result
		require.NoError(t, json.Unmarshal([]byte(m.Body), &r))
		assert.Equal(t, keyOf(r.ID), m.AccessKeyID)
	}

	cloud.Keys.Remove(first.ID)
	one := *cloud
	one.Key = first
	_, err := one.Invoke(t.Context(), []byte(harness.Batch(1)))
	failure(t, err, "OperatorFaultError")
}

func TestFunction_LeavesNothingBehind(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("counts file descriptors in /proc")
	}
	cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "warn"})
	open := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", instance.Process().Pid))
		require.NoError(t, err)
		return len(entries)
	}
	var early int
	for i := range 1000 {
		_, err := invoke(t, cloud, strings.ReplaceAll(harness.Batch(4), "event-", fmt.Sprintf("round-%d-", i)))
		require.NoError(t, err)
		if i == 50 {
			early = open()
		}
	}
	assert.LessOrEqual(t, open(), early+4)
	assert.LessOrEqual(t, cloud.DBSServer.Connections().Accepted, 16)
	assert.LessOrEqual(t, cloud.MNSServer.Connections().Accepted, 8)
}

// Nothing that is written anywhere tells a secret, on any failing path.
func TestFunction_TellsNoSecret(t *testing.T) {
	var elsewhere strings.Builder
	var mu sync.Mutex
	other, err := standin.Start(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&elsewhere, "%v %s %s", r.Header, r.URL, body)
	}))
	require.NoError(t, err)
	t.Cleanup(other.Close)

	environmentKey := standin.NewKey()
	cloud, instance := deploy(t, map[string]string{"LOG_LEVEL": "debug", "ALIBABA_CLOUD_ACCESS_KEY_ID": environmentKey.ID,
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET": environmentKey.Secret, "ALIBABA_CLOUD_SECURITY_TOKEN": environmentKey.Token})
	cloud.Timeout = time.Second
	require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
	right := cloud.Key
	wrongSecret, wrongToken := right, right
	wrongSecret.Secret = standin.NewKey().Secret
	wrongToken.Token = standin.NewKey().Token
	secrets := []string{right.Secret, right.Token, wrongSecret.Secret, wrongToken.Token,
		environmentKey.Secret, environmentKey.Token, "Signature=", "MNS " + right.ID + ":", "ACS3-HMAC"}

	var answers strings.Builder
	round := 0
	var last summary
	attempt := func(key standin.Key) {
		cloud.Key = key
		round++
		payload := strings.ReplaceAll(harness.Batch(20), "event-", fmt.Sprintf("round-%d-", round))
		answer, err := cloud.Invoke(t.Context(), []byte(payload))
		fmt.Fprintf(&answers, "%s %v\n", answer.Payload, err)
		last.answer = answer
	}
	// SignatureDoesNotMatch answers quote the string to sign and the token.
	for _, key := range []standin.Key{wrongSecret, wrongToken, {}, standin.NewKey()} {
		attempt(key)
	}
	quoting := fmt.Sprintf("string to sign: %s %s Signature=abc", right.Token, right.Secret)
	faults := append(harness.Faults(), standin.Fault{Kind: standin.Redirect, Location: other.URL},
		standin.Fault{Kind: standin.Refuse, Status: 400, Code: "Nobody", Message: quoting})
	for seed := range uint64(4) {
		cloud.DBSFaults.SetPlan(standin.Randomly(0.9, seed, faults))
		cloud.MNSFaults.SetPlan(standin.Randomly(0.9, seed, faults))
		attempt(right)
	}
	cloud.DBSFaults.SetPlan(nil)
	for _, code := range []string{"SignatureDoesNotMatch", "Nobody"} {
		cloud.MNSFaults.SetPlan(standin.Always(
			standin.Fault{Kind: standin.Refuse, Status: 403, Code: code, Message: quoting}))
		attempt(right)
	}
	cloud.MNSFaults.SetPlan(nil)

	written := []string{logOf(t, instance, last), answers.String(), elsewhere.String()}
	for _, queue := range []string{harness.ResultQueue, harness.DeadLetterQueue} {
		for _, m := range cloud.MNS.Messages(queue) {
			written = append(written, m.Body)
		}
	}
	require.Contains(t, answers.String(), "OperatorFaultError")
	require.Contains(t, answers.String(), "RedeliveryError")
	for _, text := range written {
		for _, secret := range secrets {
			assert.NotContains(t, text, secret)
		}
	}
	assert.Empty(t, elsewhere.String(), "a redirect was followed")
}
