//go:build linux

// Command crowd holds very many compact TLS connections from one client process to one server
// process: each has a message come back, and is quiet until it is compact. Then random ones have
// packets come back, and in the end all are closed. It prints what that took, and fails if a
// connection or a packet was lost.
//
//	ulimit -n 200000; go run ./cmd/crowd -n 100000
//
// Both processes are this program, started again.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/internal/bench/proc"
)

// What makes this program one of the two processes.
const (
	serverCommand = "server"
	clientCommand = "client"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == serverCommand:
		err = child.Serve(serve)
	case len(os.Args) == 2 && os.Args[1] == clientCommand:
		err = child.Serve(call)
	default:
		n := flag.Int("n", 100_000, "connections")
		packets := flag.Int("packets", 10_000, "packets on random connections, when all stand")
		flag.Parse()
		err = run(*n, *packets)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

// held is how many connections stand when memory is read for the first time: what is allocated once
// is no connection's.
const held = 64

func run(n, packets int) error {
	server, client, err := start()
	if err != nil {
		return err
	}
	defer server.Stop()
	defer client.Stop()
	if err := client.OpenMore(held); err != nil {
		return err
	}
	before, err := read(server, client, held)
	if err != nil {
		return err
	}
	began := time.Now()
	for left := n - held; left > 0; left -= atATime {
		if err := client.OpenMore(min(left, atATime)); err != nil {
			return err
		}
		if opened := n - max(left-atATime, 0); opened/step > (opened-atATime)/step {
			var now state
			if err := client.Command(stateCommand, &now); err != nil {
				return err
			}
			fmt.Printf("%d connections after %.0f s\n", now.Alive, time.Since(began).Seconds())
			if now.Alive < opened {
				return fmt.Errorf("%d were opened; ended: %v", opened, now.Ended)
			}
		}
	}
	after, err := read(server, client, n)
	if err != nil {
		return err
	}
	show(before, after, n-held)
	began = time.Now()
	if err := client.Command(packetsCommand+" "+strconv.Itoa(packets), nil); err != nil {
		return err
	}
	fmt.Printf("%d packets came back on random connections in %.1f s\n", packets,
		time.Since(began).Seconds())
	end, err := read(server, client, n)
	if err != nil {
		return err
	}
	fmt.Printf("lost: %d\n", n-min(end.client.Alive, end.server.Alive))
	if err := client.Command(closeCommand, nil); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var left state
		if err := server.Command(stateCommand, &left); err != nil {
			return err
		}
		if left.Alive == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d connections of the server outlive the client's", left.Alive)
		}
	}
	fmt.Println("all were closed")
	return nil
}

const (
	// atATime is how many connections are opened at a time: fewer than a listener's queue holds.
	atATime = 64
	step    = 5000 // a line for so many connections

	patience = 2 * time.Minute
)

func start() (server, client *child.Child, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.New()
	if err != nil {
		return nil, nil, err
	}
	server, err = child.Start(child.Spec{Name: serverCommand, Program: self,
		Args: []string{serverCommand}, Config: config{Certificate: id.Chain, Key: id.Key}})
	if err != nil {
		return nil, nil, err
	}
	client, err = child.Start(child.Spec{Name: clientCommand, Program: self,
		Args: []string{clientCommand}, Config: config{Address: server.Addr, CA: id.CA}})
	if err != nil {
		server.Stop()
	}
	return server, client, err
}

// config is that of either process.
type config struct {
	Certificate, Key string // PEM, of the server
	Address, CA      string // of the server, for the client; CA is PEM
}

// state is what a process says of its connections.
type state struct {
	Alive   int // that stand
	Compact int // of them

	Ended map[string]int // by reason
}

// reading is all there is to read at a time.
type reading struct {
	server, client             state
	serverMemory, clientMemory proc.Memory
	slab                       int64 // of the kernel, in bytes
}

// read waits until all connections of both sides are compact, and reads.
func read(server, client *child.Child, n int) (r reading, err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := errors.Join(server.Command(stateCommand, &r.server),
			client.Command(stateCommand, &r.client))
		if err != nil {
			return r, err
		}
		if r.server.Alive != n || r.client.Alive != n {
			return r, fmt.Errorf("of %d connections %d stand on the client, %d on the server; "+
				"ended: %v, %v", n, r.client.Alive, r.server.Alive, r.client.Ended, r.server.Ended)
		}
		if r.server.Compact == n && r.client.Compact == n {
			break
		}
		if time.Now().After(deadline) {
			return r, fmt.Errorf("of %d connections %d are compact on the client, %d on the server",
				n, r.client.Compact, r.server.Compact)
		}
	}
	if r.serverMemory, err = server.Memory(); err == nil {
		r.clientMemory, err = client.Memory()
	}
	r.slab = proc.Slab()
	return r, err
}

func show(before, after reading, more int) {
	for _, side := range []struct {
		name          string
		state         state
		before, after proc.Memory
	}{
		{clientCommand, after.client, before.clientMemory, after.clientMemory},
		{serverCommand, after.server, before.serverMemory, after.serverMemory},
	} {
		each := side.after.Per(int64(more), side.before)
		fmt.Printf("%s: %d connections stand, %d are compact; %d goroutines, as before %d\n",
			side.name, side.state.Alive, side.state.Compact, side.after.Goroutines,
			side.before.Goroutines)
		fmt.Printf("%s: %.1f MB resident, %.1f before a collection; a connection has %.0f B of "+
			"heap, %.0f of stack, %.0f resident\n", side.name, float64(side.after.RSS)/1e6,
			float64(side.after.Found)/1e6, each.Heap, each.Stack, each.RSS)
	}
	fmt.Printf("kernel: %.0f B of slab for both ends of a connection\n",
		float64(after.slab-before.slab)/float64(more))
}
