//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

func Example_waitGroup() {
	err := runtime.Run(func(ctx context.Context) error {
		s := server.New(server.Config{Port: server.Port{EOF: "\n", Handle: answerOdd}})
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer s.Close()
		runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) })

		results := make([]string, 5) // written by coroutines of one loop: no lock
		var wg runtime.WaitGroup
		for i := range results {
			wg.Go(ctx, func(ctx context.Context) {
				c := client.New(client.Config{EOF: "\n", ReadTimeout: 2 * time.Second})
				defer c.Close()
				if err := c.Connect(ctx, "tcp", l.Addr().String()); err != nil {
					results[i] = err.Error()
					return
				}
				c.Send(ctx, fmt.Appendf(nil, "%d\n", i+1))
				line, err := c.Recv(ctx)
				if err != nil {
					results[i] = fmt.Sprintf("code %d, connected %t",
						socket.Code(err), c.Connected())
					return
				}
				results[i] = strings.TrimSpace(string(line))
			})
		}
		fmt.Println("count", wg.Count())
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		err = wg.Wait(short)
		fmt.Println("wait for 0.01 s:", errors.Is(err, context.DeadlineExceeded))
		fmt.Println("wait:", wg.Wait(ctx), "count", wg.Count())
		for i, result := range results {
			fmt.Printf("%d: %s\n", i+1, result)
		}
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// count 5
	// wait for 0.01 s: true
	// wait: <nil> count 0
	// 1: answer to 1
	// 2: code 110, connected true
	// 3: answer to 3
	// 4: code 110, connected true
	// 5: answer to 5
	// <nil>
}

// answerOdd answers odd numbers at once, and even ones never.
func answerOdd(ctx context.Context, c *server.Conn) {
	line, err := c.Recv(ctx)
	if err != nil {
		return
	}
	if n, _ := strconv.Atoi(strings.TrimSpace(string(line))); n%2 == 0 {
		c.Recv(ctx) // until the client has gone
		return
	}
	c.Send(ctx, fmt.Appendf(nil, "answer to %s", line))
}
