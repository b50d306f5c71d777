//go:build !linux

package harness

import "os/exec"

// dieWithParent does what it can where the system has no such thing: nothing.
func dieWithParent(*exec.Cmd) {}
