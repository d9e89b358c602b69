package main

import (
	"syscall"
	"time"
	"unsafe"
)

// The kernel's CPU clocks, those that the benches read of the others.
const (
	processCPU = 2
	threadCPU  = 3
)

// cpuTime is what the calling process or thread has used of its CPU, to the nanosecond.
func cpuTime(clock uintptr) time.Duration {
	var now syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		panic("clock_gettime: " + errno.Error())
	}
	return time.Duration(now.Nano())
}

// stopwatch measures the time that passes, and the CPU time of this process meanwhile.
type stopwatch struct {
	started time.Time
	cpu     time.Duration
}

func startStopwatch() stopwatch {
	cpu := cpuTime(processCPU)
	return stopwatch{time.Now(), cpu}
}

// elapsed is the time and the CPU time since the start.
func (s stopwatch) elapsed() (wall, cpu time.Duration) {
	wall = time.Since(s.started)
	return wall, cpuTime(processCPU) - s.cpu
}
