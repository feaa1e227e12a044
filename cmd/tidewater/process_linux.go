package main

import "syscall"

// nodeProcess has a node end when the process that started it is killed, and
// keeps the terminal's Ctrl-C from it: it is told to end in its turn.
func nodeProcess() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
