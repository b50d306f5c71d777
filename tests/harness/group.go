package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The quota of an instance with 0.05 CPU: of each period it may run this long.
const (
	QuotaPeriod = 100 * time.Millisecond
	QuotaShare  = 5 * time.Millisecond
)

// groupPrefix starts the names of the control groups made here; the ID of the
// process that made it follows.
const groupPrefix = "increment-backup-download-test-"

// Group is a control group with the CPU quota of the deployed size.
type Group struct{ Folder string }

// NewGroup makes a control group, of version 1 or 2. It goes before everything else
// that the machine runs, so that the quota alone holds it up.
// See https://docs.kernel.org/scheduler/sched-bwc.html
// and https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu.
func NewGroup(name string) (*Group, error) {
	period, share := strconv.FormatInt(QuotaPeriod.Microseconds(), 10), strconv.FormatInt(QuotaShare.Microseconds(), 10)
	var reasons []error
	for _, version := range []struct {
		root   string
		limits [][2]string // file and content
	}{
		{"/sys/fs/cgroup/cpu", [][2]string{
			{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", share}, {"cpu.shares", "262144"}}},
		{"/sys/fs/cgroup", [][2]string{{"cpu.max", share + " " + period}, {"cpu.weight", "10000"}}},
	} {
		// Writing to a file of any other folder would make the file.
		if _, err := os.Stat(filepath.Join(version.root, "cgroup.procs")); err != nil {
			reasons = append(reasons, err)
			continue
		}
		sweep(version.root)
		g := &Group{filepath.Join(version.root, groupPrefix+strconv.Itoa(os.Getpid())+"-"+name)}
		err := os.Mkdir(g.Folder, 0o755)
		for _, limit := range version.limits {
			if err == nil {
				err = overwrite(filepath.Join(g.Folder, limit[0]), limit[1])
			}
		}
		if err == nil {
			return g, nil
		}
		_ = os.Remove(g.Folder)
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no control group can be made here: %w", errors.Join(reasons...))
}

// overwrite writes to a file that exists.
func overwrite(path, content string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
}

// sweep removes the groups that a killed process has left.
func sweep(root string) {
	left, _ := filepath.Glob(filepath.Join(root, groupPrefix+"*"))
	for _, folder := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), groupPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil {
			continue
		}
		process, err := os.FindProcess(pid)
		if err == nil && errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
			_ = os.Remove(folder)
		}
	}
}

// Remove removes the group, whose processes have ended.
func (g *Group) Remove() error {
	var err error
	for range 100 {
		// The system takes a moment to notice that the last process is gone.
		if err = os.Remove(g.Folder); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing reports it
	}
	return err
}

// Has reports whether a process is in the group.
func (g *Group) Has(pid int) bool {
	content, err := os.ReadFile(filepath.Join(g.Folder, "cgroup.procs"))
	return err == nil && slices.Contains(strings.Fields(string(content)), strconv.Itoa(pid))
}

// Wrap writes a script that joins the group and then becomes the executable, so
// that this is in the group from its first instruction.
func (g *Group) Wrap(folder, executable string) (string, error) {
	script := filepath.Join(folder, filepath.Base(g.Folder)+".sh")
	content := fmt.Sprintf("#!/bin/sh\necho $$ > '%s/cgroup.procs' && exec '%s'\n", g.Folder, executable)
	return script, os.WriteFile(script, []byte(content), 0o700)
}
