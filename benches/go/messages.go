package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pingPong sends a message to another goroutine and has it back.
func pingPong(capacity int, n counts) measured {
	return played(capacity, n, func(ponged <-chan int) int { return <-ponged })
}

// pingPongTimed waits for each answer under a timeout. A timer that is set again is cheaper than a new one.
func pingPongTimed(n counts) measured {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	return played(1, n, func(ponged <-chan int) int {
		timer.Reset(timeout)
		select {
		case answer := <-ponged:
			timer.Stop()
			return answer
		case <-timer.C:
			panic("no answer in time")
		}
	})
}

func played(capacity int, n counts, receive func(<-chan int) int) measured {
	ping, pong := make(chan int, capacity), make(chan int, capacity)
	go func() {
		for message := range ping {
			pong <- message
		}
	}()
	defer close(ping)
	return timed(n.Messages, func() {
		for message := range n.Messages / 2 {
			ping <- message
			if receive(pong) != message {
				panic("another answer")
			}
		}
	})
}

// crowdedStream sends from four goroutines to four others over one channel.
func crowdedStream(n counts) measured {
	messages := make(chan int, bound)
	return timed(n.Streamed, func() {
		var producers, consumers sync.WaitGroup
		var received [crowd]int
		for number := range crowd {
			producers.Go(func() {
				for message := range n.Streamed / crowd {
					messages <- message
				}
			})
			consumers.Go(func() {
				count := 0
				for range messages {
					count++
				}
				received[number] = count
			})
		}
		producers.Wait()
		close(messages)
		consumers.Wait()
		sum := 0
		for _, count := range received {
			sum += count
		}
		if sum != n.Streamed {
			panic("a message was lost")
		}
	})
}

func selectOfTwo(n counts) measured {
	first, second := make(chan int, 1), make(chan int, 1)
	return timed(n.Messages, func() {
		go func() {
			for message := range n.Messages / 2 {
				first <- message
				second <- message
			}
		}()
		for range n.Messages {
			select {
			case <-first:
			case <-second:
			}
		}
	})
}

func oneshots(n counts) measured {
	return timed(n.Messages, func() {
		for message := range n.Messages {
			answer := make(chan int, 1)
			answer <- message
			if <-answer != message {
				panic("another answer")
			}
		}
	})
}

// notify has two goroutines wake each other; a channel with room for one signal keeps it for who does not wait yet.
func notify(n counts) measured {
	signals := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	return timed(n.Messages, func() {
		signals[0] <- struct{}{}
		both(func(own int) {
			for range n.Messages / 2 {
				<-signals[own]
				signals[1-own] <- struct{}{}
			}
		})
	})
}

func socketPair(n counts) measured {
	near, far := pair()
	defer near.Close()
	go func() {
		message := make([]byte, 8)
		for {
			if _, err := io.ReadFull(far, message); err != nil {
				return
			}
			must(far.Write(message))
		}
	}()
	return timed(n.SocketMessages, func() {
		message := make([]byte, 8)
		for number := range uint64(n.SocketMessages / 2) {
			binary.NativeEndian.PutUint64(message, number)
			must(near.Write(message))
			must(io.ReadFull(near, message))
			if binary.NativeEndian.Uint64(message) != number {
				panic("another answer")
			}
		}
	})
}

// unixChunks sends one way; the last byte has come when it ends.
func unixChunks(n counts) measured {
	near, far := pair()
	defer near.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		received := make([]byte, chunk)
		for range n.Chunks {
			must(io.ReadFull(far, received))
		}
	}()
	return timed(n.Chunks, func() {
		sent := make([]byte, chunk)
		for range n.Chunks {
			must(near.Write(sent))
		}
		<-done
	})
}

// pair is two Unix sockets that are connected.
func pair() (near, far net.Conn) {
	descriptors, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	var connections [2]net.Conn
	for i, descriptor := range descriptors {
		file := os.NewFile(uintptr(descriptor), "socket")
		// It has a descriptor of its own.
		if connections[i], err = net.FileConn(file); err != nil {
			panic(err)
		}
		file.Close()
	}
	return connections[0], connections[1]
}

// must is for what fails only if the other end has gone, which it does not.
func must(_ int, err error) {
	if err != nil {
		panic(err)
	}
}
