package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	body = "Hello, World!"
	// longest is the most CPU time that a request may ask for.
	longest = time.Second
)

// connection is the key of a connection's number in its context.
type connection struct{}

// serve answers with net/http until it is killed, under the limits that maniple-server comes with.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	address := flags.String("listen", "127.0.0.1:0", "where to listen")
	idle := flags.Duration("idle", time.Minute, "how long a connection may be idle")
	routes := flags.Bool("routes", false, "with the routes of compare skew")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       *idle,
		MaxHeaderBytes:    32 << 10,
	}
	if *routes {
		mux.HandleFunc("GET /cpu", compute)
		mux.HandleFunc("GET /where", where)
		server.ConnContext = numbered()
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, body)
}

// compute uses up so much CPU time before it says hello.
func compute(w http.ResponseWriter, r *http.Request) {
	micros, err := strconv.ParseInt(r.URL.Query().Get("us"), 10, 64)
	asked := time.Duration(micros) * time.Microsecond
	if err != nil || asked < 0 || asked > longest {
		http.NotFound(w, r)
		return
	}
	burn(asked)
	hello(w, r)
}

// where says who serves the connection: a goroutine of its own, which has no thread to stay with.
func where(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, r.Context().Value(connection{}))
}

func numbered() func(context.Context, net.Conn) context.Context {
	var last atomic.Int64
	return func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connection{}, last.Add(1))
	}
}

// burn computes until it has used so much CPU time. Wall time would count what others use of the core meanwhile.
func burn(left time.Duration) {
	for left > 0 {
		left -= slice(min(left, 50*time.Microsecond))
	}
}

// slice computes for so long, and says for how long it did. The clock is the thread's, so meanwhile it stays there;
// between slices the scheduler may move it.
func slice(wanted time.Duration) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := cpuTime(threadCPU)
	for {
		hash := uint64(1)
		for step := range uint64(200) {
			hash = (hash ^ step) * 0x0100_0000_01b3
		}
		sink.Store(hash)
		if used := cpuTime(threadCPU) - begun; used >= wanted {
			return used
		}
	}
}

// sink takes results, so that computing them is not left out.
var sink atomic.Uint64
