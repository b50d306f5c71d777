package harness_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
)

// On a system where no control group may be made, the error has to say so.
func TestGroup_HoldsAProcessFromItsStartAndIsRemoved(t *testing.T) {
	g, err := harness.NewGroup("test")
	if err != nil {
		require.ErrorContains(t, err, "no control group can be made here")
		t.Skip(err)
	}
	folder := t.TempDir()
	script, err := g.Wrap(folder, "/bin/cat")
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), script)
	input, err := command.StdinPipe()
	require.NoError(t, err)
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	_, err = input.Write([]byte("x"))
	require.NoError(t, err)
	_, err = output.Read(make([]byte, 1)) // it is cat by now
	require.NoError(t, err)
	assert.True(t, g.Has(command.Process.Pid))
	require.NoError(t, input.Close())
	require.NoError(t, command.Wait())
	assert.False(t, g.Has(command.Process.Pid))
	require.NotEmpty(t, g.Folders)
	require.NoError(t, g.Remove())
	for _, folder := range g.Folders {
		assert.NoDirExists(t, folder)
	}
}

func TestGroup_KillsAProcessThatOutgrowsTheDeployedMemory(t *testing.T) {
	g, err := harness.NewGroup("memory")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { assert.NoError(t, g.Remove()) })
	script, err := g.Wrap(t.TempDir(), "/usr/bin/tail")
	require.NoError(t, err)
	for megabytes, lives := range map[int]bool{harness.MemoryMB / 4: true, harness.MemoryMB * 2: false} {
		command := exec.CommandContext(t.Context(), script)
		// It holds a line until the line ends.
		command.Stdin = bytes.NewReader(make([]byte, megabytes<<20))
		err := command.Run()
		assert.Equal(t, lives, err == nil, "%d MB: %v", megabytes, err)
	}
	peak, err := g.Peak()
	require.NoError(t, err)
	assert.InDelta(t, harness.MemoryMB<<20, peak, 1<<20)
}

func TestSweep_RemovesGroupsOfDeadProcessesOnly(t *testing.T) {
	gone := exec.CommandContext(t.Context(), "/bin/true")
	require.NoError(t, gone.Run())
	root := t.TempDir()
	folder := func(pid int) string { return filepath.Join(root, harness.GroupPrefix+strconv.Itoa(pid)+"-1") }
	require.NoError(t, os.Mkdir(folder(gone.Process.Pid), 0o755))
	require.NoError(t, os.Mkdir(folder(os.Getpid()), 0o755))
	harness.Sweep(root)
	assert.NoDirExists(t, folder(gone.Process.Pid))
	assert.DirExists(t, folder(os.Getpid()))
}
