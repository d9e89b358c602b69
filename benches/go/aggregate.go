package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	requestBytes = 64
	answerBytes  = 128
	backends     = 3
)

// aggregate has leaders ask three backends each at the same time, over and over, and prints what that took.
func aggregate(arguments []string) error {
	flags := flag.NewFlagSet("aggregate", flag.ContinueOnError)
	count := flags.Int("leaders", 64, "leaders that run at a time")
	seconds := flags.Float64("seconds", 3, "how long to measure, after a fifth of that to warm up")
	addresses := flags.String("backends", "", "where the three listen, with commas between")
	join := flags.Bool("join", false, "make the last of the three calls in the leader")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	leaders, err := connect(*count, strings.Split(*addresses, ","))
	if err != nil {
		return err
	}
	ask := (*leader).askSpawned
	if *join {
		ask = (*leader).askJoined
	}
	var meter meter
	results := make(chan error, len(leaders))
	for _, leader := range leaders {
		go func() { results <- leader.run(&meter, ask) }()
	}
	seen := meter.watch(time.Duration(*seconds * float64(time.Second)))
	for range leaders {
		if err := <-results; err != nil {
			return err
		}
	}
	var latencies histogram
	for _, leader := range leaders {
		latencies.add(&leader.latencies)
	}
	if latencies.count == 0 {
		return errors.New("no aggregate ended in time")
	}
	seen.Aggregates = latencies.count
	seen.P50 = float64(latencies.quantile(0.5)) / 1e3
	seen.P99 = float64(latencies.quantile(0.99)) / 1e3
	return tell(seen)
}

// leader asks over connections of its own.
type leader struct {
	calls     [backends]call
	latencies histogram
}

func connect(count int, addresses []string) ([]*leader, error) {
	if len(addresses) != backends {
		return nil, fmt.Errorf("%d backends, %d are needed", len(addresses), backends)
	}
	leaders := make([]*leader, count)
	for i := range leaders {
		leaders[i] = new(leader)
		for place, address := range addresses {
			stream, err := net.Dial("tcp", address)
			if err != nil {
				return nil, err
			}
			call := &leaders[i].calls[place]
			call.stream = stream
			for at := range call.request {
				call.request[at] = 'q'
			}
		}
	}
	return leaders, nil
}

func (l *leader) run(meter *meter, ask func(*leader) error) error {
	began := time.Now()
	for {
		if err := ask(l); err != nil {
			return err
		}
		now := time.Now()
		switch meter.phase.Load() {
		case measure:
			l.latencies.record(now.Sub(began))
		case stop:
			return nil
		}
		began = now
	}
}

// askSpawned makes each call in a goroutine of its own.
func (l *leader) askSpawned() error {
	var group sync.WaitGroup
	for i := range l.calls {
		group.Go(l.calls[i].make)
	}
	group.Wait()
	return l.outcome()
}

// askJoined makes the last call itself.
func (l *leader) askJoined() error {
	var group sync.WaitGroup
	group.Go(l.calls[0].make)
	group.Go(l.calls[1].make)
	l.calls[2].make()
	group.Wait()
	return l.outcome()
}

func (l *leader) outcome() error {
	return errors.Join(l.calls[0].err, l.calls[1].err, l.calls[2].err)
}

// call is a request and its answer. The buffers stay with it: what is handed to an interface leaves the stack.
type call struct {
	stream  net.Conn
	request [requestBytes]byte
	answer  [answerBytes]byte
	err     error
}

func (c *call) make() {
	if _, c.err = c.stream.Write(c.request[:]); c.err == nil {
		_, c.err = io.ReadFull(c.stream, c.answer[:])
	}
}
