package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
)

// The lines that the benches follow; a key each.
type (
	reached struct {
		Count int `json:"reached"`
	}
	parked struct {
		Parked standing `json:"parked"`
	}
	ended struct {
		Stage stage `json:"ended"`
	}
	finished struct {
		Stage stage `json:"finished"`
	}
)

// standing is what all that wait take.
type standing struct {
	Count  int       `json:"count"`
	Cause  *string   `json:"cause"`
	Guard  string    `json:"guard"`
	Spawn  stage     `json:"spawn"`
	Before footprint `json:"before"`
	Now    footprint `json:"now"`
}

// stage is how long something took.
type stage struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
}

// footprint is what this process takes, in bytes and in mappings.
type footprint struct {
	Resident   uint64 `json:"resident"`
	PageTables uint64 `json:"page_tables"`
	Mappings   int    `json:"mappings"`
}

// batch is how many goroutines are started before they get to run.
const batch = 64

// stacks has goroutines use their stacks, wait, and end.
func stacks(arguments []string) error {
	flags := flag.NewFlagSet("stacks", flag.ContinueOnError)
	count := flags.Int("count", 100_000, "goroutines")
	pages := flags.Int("touch", 1, "how many pages of a stack that begins on one would be touched")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	before, err := takeFootprint()
	if err != nil {
		return err
	}
	all := startStopwatch()
	var (
		group   sync.WaitGroup
		arrived atomic.Int64
		told    int
		gate    = make(chan struct{})
		step    = min(max(*count/100, 1), 256)
	)
	for begun := 1; begun <= *count; begun++ {
		group.Go(func() {
			touch(*pages)
			arrived.Add(1)
			<-gate
		})
		if begun%batch == 0 || begun == *count {
			for arrived.Load() < int64(begun) {
				runtime.Gosched()
			}
			if begun >= told+step {
				told = begun
				if err := tell(reached{begun}); err != nil {
					return err
				}
			}
		}
	}
	spawn := all.stage()
	now, err := takeFootprint()
	if err != nil {
		return err
	}
	// What begins in each function looks whether the stack is long enough, and moves to a longer one.
	waiting := standing{Count: *count, Guard: "checks", Spawn: spawn, Before: before, Now: now}
	if err := tell(parked{waiting}); err != nil {
		return err
	}
	ending := startStopwatch()
	close(gate)
	group.Wait()
	return errors.Join(tell(ended{ending.stage()}), tell(finished{all.stage()}))
}

func (s stopwatch) stage() stage {
	wall, cpu := s.elapsed()
	return stage{wall.Seconds(), cpu.Seconds()}
}

// touch uses as much stack as it takes to reach so many pages, downwards from the end of the first.
func touch(pages int) {
	descend((pages - 1) * os.Getpagesize())
}

// descend calls itself until so many bytes of stack are used.
//
//go:noinline
func descend(left int) byte {
	var frame [frameBytes - callBytes]byte
	frame[0] = 1
	if left > 0 {
		frame[0] += descend(left - frameBytes)
	}
	return frame[left%len(frame)]
}

const (
	// frameBytes is small beside a page, so that the last frame hardly reaches beyond it.
	frameBytes = 256
	// callBytes is what a call takes beside its locals: what it returns to, the caller's frame, its argument, a result.
	callBytes = 24
)

func takeFootprint() (footprint, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return footprint{}, err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	return footprint{
		Resident:   bytesOf(status, "VmRSS:"),
		PageTables: bytesOf(status, "VmPTE:"),
		Mappings:   bytes.Count(maps, []byte("\n")),
	}, err
}

// bytesOf is a field of /proc/self/status, which has it in KiB.
func bytesOf(status []byte, name string) uint64 {
	_, rest, _ := bytes.Cut(status, []byte(name))
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	// A field that is missing counts as nothing, as for the other engines.
	kib, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	return kib << 10
}
