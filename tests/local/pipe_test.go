package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// A run that is cut short leaves nothing behind, and makes no noise.
func TestLocal_CutShortLeavesNothingBehind(t *testing.T) {
	executable, err := harness.Build(t.Context(), t.TempDir(), "./tests/local")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		cut    func(t *testing.T, process *os.Process, stdout interface{ Close() error })
		status int
		stderr string
	}{
		"the reader goes away": {func(t *testing.T, _ *os.Process, stdout interface{ Close() error }) {
			require.NoError(t, stdout.Close())
		}, 0, ""},
		"interrupted": {func(t *testing.T, process *os.Process, _ interface{ Close() error }) {
			require.NoError(t, process.Signal(syscall.SIGINT))
		}, 1, "local: interrupted\n"},
	} {
		for moment, line := range map[string]string{"while it builds": "Building", "while it delivers": "Delivering"} {
			t.Run(name+" "+moment, func(t *testing.T) {
				t.Parallel()
				temporary := t.TempDir()
				command := exec.CommandContext(t.Context(), executable, "-events", "5000", "-faults", "0.3")
				command.Env = append(os.Environ(), "TMPDIR="+temporary)
				stdout, err := command.StdoutPipe()
				require.NoError(t, err)
				var stderr bytes.Buffer
				command.Stderr = &stderr
				require.NoError(t, command.Start())
				lines := bufio.NewScanner(stdout)
				for lines.Scan() && !strings.HasPrefix(lines.Text(), line) {
				}
				c.cut(t, command.Process, stdout)
				_ = command.Wait()
				assert.Equal(t, c.status, command.ProcessState.ExitCode(), stderr.String())
				assert.Equal(t, c.stderr, stderr.String())
				left, err := os.ReadDir(temporary)
				require.NoError(t, err)
				assert.Empty(t, left)
			})
		}
	}
}
