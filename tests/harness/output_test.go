package harness_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

func TestOutput_WaitsForWhatIsYetToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var output harness.Output
		go func() {
			for _, part := range []string{"other\n", "the e", "nd\n"} {
				time.Sleep(time.Second)
				_, _ = output.Write([]byte(part))
			}
		}()
		started := time.Now()
		require.NoError(t, output.WaitFor(t.Context(), "the end"))
		assert.Equal(t, 3*time.Second, time.Since(started))
		require.NoError(t, output.WaitFor(t.Context(), "other"), "it has come already")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, output.WaitFor(ctx, "something else"), context.DeadlineExceeded)
	})
}

func TestOutput_FollowsWholeLines(t *testing.T) {
	var output harness.Output
	var lines []string
	_, _ = output.Write([]byte("before\n"))
	output.Follow(func(line string) { lines = append(lines, line) })
	for _, part := range []string{"one\ntw", "o", "\n\nthree"} {
		_, _ = output.Write([]byte(part))
	}
	assert.Equal(t, []string{"one", "two", ""}, lines)
	assert.Equal(t, "before\none\ntwo\n\nthree", output.String())
}
