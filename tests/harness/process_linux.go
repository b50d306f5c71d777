package harness

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the child when this process ends, however it ends: the
// runtime SDK asks for work for ever.
func dieWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
