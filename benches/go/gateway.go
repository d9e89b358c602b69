package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// gateway asks three servers for each request that it answers, with net/http on both sides.
func gateway(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("gateway: name three URLs, with commas between")
	}
	urls := strings.Split(arguments[0], ",")
	if len(urls) != backends {
		return fmt.Errorf("%d backends, %d are needed", len(urls), backends)
	}
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, request *http.Request) {
		var lengths [backends]int
		var failed [backends]error
		var group sync.WaitGroup
		for place, url := range urls {
			group.Go(func() { lengths[place], failed[place] = ask(client, request, url) })
		}
		group.Wait()
		sum := 0
		for place := range urls {
			if failed[place] != nil {
				http.Error(w, "bad gateway", http.StatusBadGateway)
				return
			}
			sum += lengths[place]
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, strconv.Itoa(sum))
	})
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

// ask returns the length of an answer's body. The call ends with the request that it is made for.
func ask(client *http.Client, request *http.Request, url string) (int, error) {
	call, err := http.NewRequestWithContext(request.Context(), "GET", url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(call)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", answer.StatusCode)
	}
	body, err := io.ReadAll(answer.Body)
	return len(body), err
}
