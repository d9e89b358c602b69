// Command peer is Go's part in maniple's benches, which build it and start it as they start the others.
//
// It prints to standard output what the benches wait for, and a line on standard error if it fails.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

func main() {
	if err := endWithParent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endWithParent has the kernel end this process when the one that started it ends.
func endWithParent() error {
	const setDeathSignal = 1
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setDeathSignal, uintptr(syscall.SIGKILL), 0)
	if errno != 0 {
		return fmt.Errorf("prctl: %w", errno)
	}
	return nil
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("peer: name what to run: serve, aggregate, gateway, stacks, micro")
	}
	switch command, rest := arguments[0], arguments[1:]; command {
	case "serve":
		return serve(rest)
	case "aggregate":
		return aggregate(rest)
	case "gateway":
		return gateway(rest)
	case "stacks":
		return stacks(rest)
	case "micro":
		return micro(rest)
	default:
		return fmt.Errorf("peer: %q is unknown: name serve, aggregate, gateway, stacks or micro", command)
	}
}

// tell prints a line of JSON.
func tell(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
