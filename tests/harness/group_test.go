package harness_test

import (
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
	require.NoError(t, g.Remove())
	assert.NoDirExists(t, g.Folder)
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
