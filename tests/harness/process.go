package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Root returns the folder of the module.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), "module increment-backup-download\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not in the project's folder: change into it first")
		}
		dir = parent
	}
}

// Build builds a package of the module, such as ./bootstrap, into a folder, with
// the flags of the deployment, and returns the path of the executable. In a
// process that was built with the race detector, it builds with it too.
func Build(ctx context.Context, folder, target string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	executable := filepath.Join(folder, filepath.Base(target))
	arguments := []string{"build", "-trimpath", "-mod=readonly", "-tags=nethttpomithttp2", "-ldflags=-s -w",
		"-o", executable}
	// The go command leaves its own temporary files if it is interrupted early; in the
	// caller's folder they go with that.
	environment := append(os.Environ(), "CGO_ENABLED=0", "GOTMPDIR="+folder)
	if RaceEnabled() {
		arguments = append(arguments, "-race")
		environment = append(environment, "CGO_ENABLED=1")
	}
	//nolint:gosec // G204: the caller names a package of this module
	command := exec.CommandContext(ctx, "go", append(arguments, target)...)
	command.Dir, command.Env = root, environment
	// Killed, it would leave compilers behind; they end with it.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 5 * time.Second
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", target, err, output)
	}
	return executable, nil
}

// RaceEnabled reports whether this process was built with the race detector.
func RaceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// Instance is an instance of the function: the executable, started anew whenever
// it ends, until Stop.
type Instance struct {
	Output *Output // of all its processes

	cloud       *Cloud
	executable  string
	environment []string

	mu      sync.Mutex
	process *os.Process
	last    *os.ProcessState // of the process that ended last
	starts  int
	stopped bool
	done    sync.WaitGroup
}

// StartInstance starts the executable with the given settings.
func (c *Cloud) StartInstance(executable string, settings map[string]string) (*Instance, error) {
	i := &Instance{Output: &Output{}, cloud: c, executable: executable}
	if c.Log != nil {
		i.Output.Follow(c.Log)
	}
	for name, value := range c.Environment(settings) {
		i.environment = append(i.environment, name+"="+value)
	}
	if err := i.start(); err != nil {
		return nil, err
	}
	return i, nil
}

func (i *Instance) start() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return nil
	}
	command := exec.Command(i.executable) //nolint:gosec,noctx // G204: built by Build; Stop ends it
	command.Env, command.Stdout, command.Stderr = i.environment, i.Output, i.Output
	dieWithParent(command)
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting the function: %w", err)
	}
	i.process = command.Process
	i.starts++
	i.done.Go(func() {
		_ = command.Wait()
		i.mu.Lock()
		i.last = command.ProcessState
		i.mu.Unlock()
		i.cloud.Runtime.Exited()
		// One that ends by itself has a wrong setting: starting it over and over
		// would hide that.
		if !command.ProcessState.Exited() {
			_ = i.start()
		}
	})
	return nil
}

// Starts counts the processes that were started.
func (i *Instance) Starts() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.starts
}

// Process returns the running process.
func (i *Instance) Process() *os.Process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process
}

// Kill ends the process at once, with SIGKILL; a new one takes its place.
func (i *Instance) Kill() { _ = i.Process().Signal(syscall.SIGKILL) }

// Restart kills the process and waits until the new one has started.
func (i *Instance) Restart(ctx context.Context) error {
	before := i.Starts()
	i.Kill()
	for i.Starts() == before {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Stop ends the instance, and returns what its last process used.
func (i *Instance) Stop() *os.ProcessState {
	i.mu.Lock()
	i.stopped = true
	process := i.process
	i.mu.Unlock()
	_ = process.Kill()
	i.done.Wait()
	return i.last
}
