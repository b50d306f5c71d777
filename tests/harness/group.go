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

// The size of an instance that s.yaml deploys: its share of each period on 0.05 vCPU,
// and its memory.
const (
	QuotaPeriod = 100 * time.Millisecond
	QuotaShare  = 5 * time.Millisecond
	MemoryMB    = 128
)

// groupPrefix starts the names of the control groups made here; the ID of the
// process that made it follows.
const groupPrefix = "increment-backup-download-test-"

// Group is a control group of the deployed size: the system slows a process that
// wants more CPU, and kills one that wants more memory.
type Group struct {
	Folders []string // one for each controller in version 1, one for all in version 2

	name string
}

// limits are the files of one folder of a control group with their content.
type limits struct {
	root  string
	files [][2]string
}

// NewGroup makes a control group, of version 1 or 2. It goes before everything else
// that the machine runs, so that the quota alone holds it up.
// See https://docs.kernel.org/scheduler/sched-bwc.html,
// https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
// and https://docs.kernel.org/admin-guide/cgroup-v2.html.
func NewGroup(name string) (*Group, error) {
	period, share := strconv.FormatInt(QuotaPeriod.Microseconds(), 10), strconv.FormatInt(QuotaShare.Microseconds(), 10)
	memory := strconv.Itoa(MemoryMB << 20)
	var reasons []error
	for _, version := range [][]limits{
		{
			{"/sys/fs/cgroup/cpu", [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", share}, {"cpu.shares", "262144"}}},
			{"/sys/fs/cgroup/memory", [][2]string{{"memory.limit_in_bytes", memory}, {"memory.swappiness", "0"}}},
		},
		{
			{"/sys/fs/cgroup", [][2]string{{"cpu.max", share + " " + period}, {"cpu.weight", "10000"}, {"memory.max", memory}, {"memory.swap.max", "0"}}},
		},
	} {
		g := &Group{name: groupPrefix + strconv.Itoa(os.Getpid()) + "-" + name}
		err := g.make(version)
		if err == nil {
			return g, nil
		}
		_ = g.Remove()
		reasons = append(reasons, err)
	}
	return nil, fmt.Errorf("no control group can be made here: %w", errors.Join(reasons...))
}

func (g *Group) make(version []limits) error {
	for _, l := range version {
		// Writing to a file of any other folder would make the file.
		if _, err := os.Stat(filepath.Join(l.root, "cgroup.procs")); err != nil {
			return err
		}
		sweep(l.root)
		folder := filepath.Join(l.root, g.name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		g.Folders = append(g.Folders, folder)
		for _, file := range l.files {
			if err := overwrite(filepath.Join(folder, file[0]), file[1]); err != nil {
				return err
			}
		}
	}
	return nil
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

// Peak returns the most memory that the processes of the group have held at once, in
// bytes: what the system counts against the limit.
func (g *Group) Peak() (int, error) {
	for _, folder := range g.Folders {
		for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
			if content, err := os.ReadFile(filepath.Join(folder, name)); err == nil {
				return strconv.Atoi(strings.TrimSpace(string(content)))
			}
		}
	}
	return 0, errors.New("the control group does not say how much memory it has held")
}

// Remove removes the group, whose processes have ended.
func (g *Group) Remove() error {
	var errs []error
	for _, folder := range g.Folders {
		errs = append(errs, removeEmptied(folder))
	}
	return errors.Join(errs...)
}

// removeEmptied removes a folder once the system has noticed that its last process
// is gone, which takes a moment.
func removeEmptied(folder string) error {
	var err error
	for range 100 {
		if err = os.Remove(folder); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing reports it
	}
	return err
}

// Has reports whether a process is in the group.
func (g *Group) Has(pid int) bool {
	for _, folder := range g.Folders {
		content, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
		if err != nil || !slices.Contains(strings.Fields(string(content)), strconv.Itoa(pid)) {
			return false
		}
	}
	return true
}

// Wrap writes a script that joins the group and then becomes the executable, so
// that this is in the group from its first instruction.
func (g *Group) Wrap(folder, executable string) (string, error) {
	var content strings.Builder
	content.WriteString("#!/bin/sh\nset -e\n")
	for _, folder := range g.Folders {
		fmt.Fprintf(&content, "echo $$ > '%s/cgroup.procs'\n", folder)
	}
	fmt.Fprintf(&content, "exec '%s'\n", executable)
	script := filepath.Join(folder, g.name+".sh")
	return script, os.WriteFile(script, []byte(content.String()), 0o700)
}
