//go:build linux

package server_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// A process that is told to end by SIGTERM, under load, loses no request that it has accepted.
func TestTerminationUnderLoad(t *testing.T) {
	if childtest.Is(t) {
		serveUntilTerminated()
		return
	}
	cmd := childtest.Command(t)
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	lines := bufio.NewScanner(out)
	address := ""
	for lines.Scan() {
		var ok bool
		if address, ok = strings.CutPrefix(lines.Text(), "listening on "); ok {
			break
		}
	}
	var answered atomic.Int64
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				conn.SetDeadline(time.Now().Add(patience))
				for writeRead(conn, "hello\n", make([]byte, 6)) == nil {
					answered.Add(1)
				}
				conn.Close()
			}
		})
	}
	until(t, "there is load", func() bool { return answered.Load() > 1000 })
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	clients.Wait()
	handled := int64(-1)
	for lines.Scan() {
		fmt.Sscanf(lines.Text(), "handled %d", &handled)
	}
	check(t, cmd.Wait())
	if handled != answered.Load() {
		t.Errorf("%d requests were handled, %d answers came", handled, answered.Load())
	}
}

// serveUntilTerminated is what the other process does.
func serveUntilTerminated() {
	var handled atomic.Int64
	err := runtime.Run(func(ctx context.Context) error {
		port := server.Port{EOF: "\n", Handle: func(ctx context.Context, c *server.Conn) {
			for {
				pkt, err := c.Recv(ctx)
				if err != nil {
					return
				}
				handled.Add(1)
				c.Send(ctx, pkt)
			}
		}}
		s := server.New(server.Config{Port: port})
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println("listening on", l.Addr())
		runtime.Go(ctx, func(ctx context.Context) {
			if _, err := runtime.WaitSignal(ctx, syscall.SIGTERM); err != nil {
				panic(err)
			}
			limited, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if err := s.Shutdown(limited); err != nil {
				panic(err)
			}
		})
		return s.Serve(ctx)
	})
	fmt.Println("handled", handled.Load())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
