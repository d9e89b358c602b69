package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// counts is how often each row's operation is done: the benches say so, which count for all engines.
type counts struct {
	Yields         int `json:"yields"`
	Yielders       int `json:"yielders"`
	Spawns         int `json:"spawns"`
	Groups         int `json:"groups"`
	Messages       int `json:"messages"`
	Streamed       int `json:"streamed"`
	SocketMessages int `json:"socket_messages"`
	Chunks         int `json:"chunks"`
	Locks          int `json:"locks"`
	Grants         int `json:"grants"`
	ContendedLocks int `json:"contended_locks"`
	Sleepers       int `json:"sleepers"`
}

const (
	// spawned is how many goroutines are started before the first is waited for.
	spawned = 1_000
	// crowd is how many send over one channel, and as many receive, and bound its capacity.
	crowd = 4
	bound = 64
	chunk = 64 << 10
	// timeout is long enough never to be reached.
	timeout = 10 * time.Second
	nap     = 100 * time.Millisecond
)

// measured is the time per operation, and the CPU time of the whole process.
type measured struct {
	Wall float64 `json:"wall_nanos"`
	CPU  float64 `json:"cpu_nanos"`
}

// timed does f, which does so many operations.
func timed(operations int, f func()) measured {
	watch := startStopwatch()
	f()
	wall, cpu := watch.elapsed()
	per := func(time time.Duration) float64 { return float64(time.Nanoseconds()) / float64(operations) }
	return measured{per(wall), per(cpu)}
}

// rows are the operations that Go has an equivalent of.
var rows = map[string]func(counts) measured{
	"yield-2":             func(n counts) measured { return yields(2, n) },
	"yield-10000":         func(n counts) measured { return yields(n.Yielders, n) },
	"spawn-join":          spawnJoin,
	"spawn-join-1000":     spawnJoinMany,
	"group-3":             groups,
	"ping-pong":           func(n counts) measured { return pingPong(1, n) },
	"rendezvous":          func(n counts) measured { return pingPong(0, n) },
	"channel-mpmc":        crowdedStream,
	"select-2":            selectOfTwo,
	"oneshot":             oneshots,
	"socket-pair":         socketPair,
	"unix-64k":            unixChunks,
	"mutex":               mutex,
	"mutex-contended":     mutexContended,
	"rwlock-read":         rwlockRead,
	"rwlock-write":        rwlockWrite,
	"semaphore":           semaphore,
	"semaphore-contended": semaphoreContended,
	"notify":              notify,
	"timer":               pingPongTimed,
	"sleepers":            sleepers,
}

// micro measures one row and prints the figures.
func micro(arguments []string) error {
	flags := flag.NewFlagSet("micro", flag.ContinueOnError)
	name := flags.String("row", "", "what to measure")
	text := flags.String("counts", "", "how often, as JSON")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	row, known := rows[*name]
	if !known {
		return fmt.Errorf("%q is no row of Go's", *name)
	}
	var n counts
	if err := json.Unmarshal([]byte(*text), &n); err != nil {
		return errors.Join(errors.New("reading the counts"), err)
	}
	return tell(row(n))
}

func yields(tasks int, n counts) measured {
	each := n.Yields / tasks
	return timed(n.Yields, func() {
		var group sync.WaitGroup
		for range tasks {
			group.Go(func() {
				for range each {
					runtime.Gosched()
				}
			})
		}
		group.Wait()
	})
}

func spawnJoin(n counts) measured {
	return timed(n.Spawns, func() {
		var group sync.WaitGroup
		for range n.Spawns {
			group.Go(func() {})
			group.Wait()
		}
	})
}

func spawnJoinMany(n counts) measured {
	return timed(n.Spawns, func() {
		var group sync.WaitGroup
		for range n.Spawns / spawned {
			for range spawned {
				group.Go(func() {})
			}
			group.Wait()
		}
	})
}

func groups(n counts) measured {
	numbers := [3]int{1, 2, 3}
	return timed(n.Groups, func() {
		for range n.Groups {
			var group sync.WaitGroup
			var results [3]int
			for i := range numbers {
				group.Go(func() { results[i] = numbers[i] })
			}
			group.Wait()
			if results[0]+results[1]+results[2] != 6 {
				panic("a child did not run")
			}
		}
	})
}

func sleepers(n counts) measured {
	return timed(n.Sleepers, func() {
		var group sync.WaitGroup
		for range n.Sleepers {
			group.Go(func() { time.Sleep(nap) })
		}
		group.Wait()
	})
}
