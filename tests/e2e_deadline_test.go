package tests_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
)

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
				if harness.RaceEnabled() {
					t.Skip("the race detector needs more memory than an instance has")
				}
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
			// A slow machine, or the race detector, leaves no time to read them all.
			assert.Regexp(t, `of 10000 events are open|no time to read the others`, failure(t, err, "RedeliveryError"))
			assert.Less(t, took, cloud.Timeout)
			t.Logf("answered after %v of %v", took, cloud.Timeout)
		})
	}
}
