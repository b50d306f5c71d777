package tests_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

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
