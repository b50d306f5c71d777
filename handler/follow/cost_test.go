package follow_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/handler/follow"
)

// cost follows one task to its end, and counts the calls to DBS and the messages that
// are sent: the follow-ups, and the result that says how it ended.
func cost(t *testing.T, taskID string, download time.Duration) (calls, messages int) {
	t.Helper()
	created := time.Now()
	for delay := follow.Delay(taskID, 0, created); delay > 0; {
		messages++ // the follow-up that comes back now
		time.Sleep(delay)
		in, age := begin(t), time.Since(created)
		in.tasks.states[taskID] = follow.TaskState{Status: "running"}
		if age >= download {
			in.tasks.states[taskID] = follow.TaskState{Status: "finish"}
		}
		endings := in.answer(age, taskID)
		require.Len(t, endings, 1)
		require.NoError(t, endings[0].Err)
		assert.Equal(t, 1, len(in.source.messages)+len(in.results.messages), "the follow-up again, or the end")
		calls += len(in.tasks.asked)
		messages += len(in.results.messages)
		delay = endings[0].Delay
	}
	return calls, messages
}

// The table of the benchmark page: tasks differ by where they stand on the grid.
func TestFollower_CostsWhatTheBenchmarkPageSays(t *testing.T) {
	var table strings.Builder
	table.WriteString("| download takes | calls, at least | calls, at most | messages, at least | messages, at most |\n| --- | ---:| ---:| ---:| ---:|\n")
	for _, row := range []struct {
		name     string
		download time.Duration
	}{{"1 minute", time.Minute}, {"10 minutes", 10 * time.Minute}, {"3 hours", 3 * time.Hour}, {"2 days", 48 * time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			var least, most [2]int
			for i := range 100 {
				calls, messages := cost(t, fmt.Sprintf("1jydacm%04d", i), row.download)
				if i == 0 {
					least = [2]int{calls, messages}
				}
				least = [2]int{min(least[0], calls), min(least[1], messages)}
				most = [2]int{max(most[0], calls), max(most[1], messages)}
			}
			fmt.Fprintf(&table, "| %s | %d | %d | %d | %d |\n", row.name, least[0], most[0], least[1], most[1])
		})
	}
	page, err := os.ReadFile("../../docs/benchmark.md")
	require.NoError(t, err)
	assert.True(t, strings.Contains(string(page), table.String()), "put this into the page:\n%s", &table) //nolint:testifylint // the page is too long to print
}
