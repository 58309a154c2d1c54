//go:build linux

package porting_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_selectServer() {
	err := runtime.Run(func(ctx context.Context) error {
		listener, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
		if err != nil {
			return err
		}
		url := "tcp://" + listener.GetName(false)
		serving, err := runtime.Go(ctx, func(ctx context.Context) {
			serveBySelect(ctx, listener, 3)
		})
		if err != nil {
			return err
		}
		pauses := []time.Duration{60, 20, 40} // milliseconds
		err = runtime.ForEach(ctx, len(pauses), func(ctx context.Context, i int) error {
			fp, err := stream.SocketClient(ctx, url)
			if err != nil {
				return err
			}
			defer fp.Close()
			if err := runtime.Sleep(ctx, pauses[i]*time.Millisecond); err != nil {
				return err
			}
			if _, err := fp.Write(ctx, fmt.Appendf(nil, "hello %d", i+1)); err != nil {
				return err
			}
			answer := make([]byte, 1024)
			n, err := fp.Read(ctx, answer)
			fmt.Printf("client %d: got %s\n", i+1, answer[:n])
			return err
		})
		if err != nil {
			return err
		}
		serving.Join(ctx)
		_, err = stream.SocketClient(ctx, url)
		fmt.Println("nobody listens:", socket.Code(err))
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Unordered output:
	// server: accepted peer1
	// server: accepted peer2
	// server: accepted peer3
	// server: peer2 said hello 2
	// client 2: got 2 olleh
	// server: peer2 closed, EOF=true
	// server: peer3 said hello 3
	// client 3: got 3 olleh
	// server: peer3 closed, EOF=true
	// server: peer1 said hello 1
	// client 1: got 1 olleh
	// server: peer1 closed, EOF=true
	// nobody listens: 111
	// <nil>
}

// serveBySelect serves until so many peers have gone.
func serveBySelect(ctx context.Context, listener *stream.Stream, total int) {
	defer listener.Close()
	peers := map[string]*stream.Stream{}
	for gone := 0; gone < total; {
		read := maps.Clone(peers)
		read["listen"] = listener
		ready, err := stream.Select(ctx, read, nil, nil, time.Second)
		if err != nil {
			fmt.Println("server:", err)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(ready.Read)) {
			if key == "listen" {
				peer, err := stream.Accept(ctx, listener, time.Second)
				if err != nil {
					continue
				}
				key = fmt.Sprint("peer", len(peers)+gone+1)
				peers[key] = peer
				fmt.Println("server: accepted", key)
				continue
			}
			data := make([]byte, 1024)
			n, err := peers[key].Read(ctx, data)
			if err != nil {
				fmt.Printf("server: %s closed, EOF=%t\n", key, peers[key].EOF())
				peers[key].Close()
				delete(peers, key)
				gone++
				continue
			}
			fmt.Printf("server: %s said %s\n", key, data[:n])
			slices.Reverse(data[:n])
			peers[key].Write(ctx, data[:n])
		}
	}
}
