package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The quota of an instance with 0.05 CPU: of each period it may run this long.
const (
	quotaPeriod = 100 * time.Millisecond
	quotaShare  = 5 * time.Millisecond
)

// groupPrefix starts the names of the control groups made here; the process ID
// of the benchmark follows.
const groupPrefix = "increment-backup-download-bench-"

// group is a control group with the CPU quota of the deployed size.
type group struct{ folder string }

// newGroup makes a control group, of version 1 or 2. It goes before everything else
// that the machine runs, so that the quota alone holds it up.
// See https://docs.kernel.org/scheduler/sched-bwc.html
// and https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu.
func newGroup(name string) (*group, error) {
	period, share := strconv.FormatInt(quotaPeriod.Microseconds(), 10), strconv.FormatInt(quotaShare.Microseconds(), 10)
	var reasons []error
	for _, version := range []struct {
		root   string
		limits [][2]string // file and content
	}{
		{"/sys/fs/cgroup/cpu", [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", share}, {"cpu.shares", "262144"}}},
		{"/sys/fs/cgroup", [][2]string{{"cpu.max", share + " " + period}, {"cpu.weight", "10000"}}},
	} {
		// Writing to a file of any other folder would make the file.
		if _, err := os.Stat(filepath.Join(version.root, "cgroup.procs")); err != nil {
			reasons = append(reasons, err)
			continue
		}
		sweep(version.root)
		g := &group{filepath.Join(version.root, groupPrefix+strconv.Itoa(os.Getpid())+"-"+name)}
		err := os.Mkdir(g.folder, 0o755)
		for _, limit := range version.limits {
			if err == nil {
				err = overwrite(filepath.Join(g.folder, limit[0]), limit[1])
			}
		}
		if err == nil {
			return g, nil
		}
		_ = os.Remove(g.folder)
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

// sweep removes the groups that a killed benchmark has left.
func sweep(root string) {
	left, _ := filepath.Glob(filepath.Join(root, groupPrefix+"*"))
	for _, folder := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), groupPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.Remove(folder)
		}
	}
}

// remove removes the group, whose processes have ended.
func (g *group) remove() error {
	var err error
	for range 100 {
		// The system takes a moment to notice that the last process is gone.
		if err = os.Remove(g.folder); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing reports it
	}
	return err
}

// has reports whether a process is in the group.
func (g *group) has(pid int) bool {
	content, err := os.ReadFile(filepath.Join(g.folder, "cgroup.procs"))
	return err == nil && slices.Contains(strings.Fields(string(content)), strconv.Itoa(pid))
}

// wrap writes a script that joins the group and then becomes the executable, so
// that this is in the group from its first instruction.
func (g *group) wrap(folder, executable string) (string, error) {
	script := filepath.Join(folder, filepath.Base(g.folder)+".sh")
	content := fmt.Sprintf("#!/bin/sh\necho $$ > '%s/cgroup.procs' && exec '%s'\n", g.folder, executable)
	return script, os.WriteFile(script, []byte(content), 0o700)
}

// withoutQuota returns why the deployed size cannot be measured here, or nothing.
func withoutQuota() string {
	g, err := newGroup("try")
	if err == nil {
		err = g.remove()
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

var traced = regexp.MustCompile(`gomaxprocs=(\d+)`)

// processors returns the GOMAXPROCS of an executable at the deployed size, which
// the Go runtime's own trace of its scheduler reports.
func (b *bench) processors(executable string) (string, error) {
	d, err := b.deploy(executable, place{quota: true, settings: map[string]string{"GODEBUG": "schedtrace=20"}})
	if err != nil {
		return "", err
	}
	defer d.close()
	if _, err := d.handle(b.ctx, 1, 0); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	for before := len(traced.FindAllString(d.Output.String(), -1)); ; {
		if lines := traced.FindAllStringSubmatch(d.Output.String(), -1); len(lines) > before {
			return lines[len(lines)-1][1], nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("no trace of the scheduler: %w", ctx.Err())
		}
	}
}
