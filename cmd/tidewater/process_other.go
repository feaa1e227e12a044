//go:build !linux

package main

import "syscall"

// nodeProcess keeps the terminal's Ctrl-C from a node: it is told to end in
// its turn.
func nodeProcess() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
