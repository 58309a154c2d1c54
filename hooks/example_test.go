//go:build linux

package hooks_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// net/http, both sides, over Whorl.
func Example() {
	err := runtime.Run(func(ctx context.Context) error {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "Hello, %s", r.URL.Path[1:])
		})}
		go server.Serve(l)

		client := &http.Client{Transport: &http.Transport{DialContext: new(hooks.Dialer).DialContext}}
		body, err := runtime.Await(ctx, func() ([]byte, error) { // net/http waits on Go channels
			defer server.Close()
			response, err := client.Get("http://" + l.Addr().String() + "/world")
			if err != nil {
				return nil, err
			}
			defer response.Body.Close()
			return io.ReadAll(response.Body)
		})
		fmt.Printf("%s\n", body)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: Hello, world
}

// A coroutine reads and writes a connection as a goroutine would.
func ExampleDialer() {
	err := runtime.Run(func(ctx context.Context) error {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		runtime.Go(ctx, func(context.Context) {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			io.Copy(conn, conn)
		})

		dialer := hooks.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		fmt.Fprintln(conn, "there and back")
		line, err := bufio.NewReader(conn).ReadString('\n')
		fmt.Print(line)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: there and back
}

// A pipe has a buffer, so one and the same coroutine may write first and read afterwards.
func ExamplePipe() {
	a, b := hooks.Pipe()
	fmt.Fprint(a, "in memory")
	a.CloseWrite()
	text, err := io.ReadAll(b)
	fmt.Println(string(text), err)
	// Output: in memory <nil>
}

func ExampleExec() {
	err := runtime.Run(func(ctx context.Context) error {
		out, err := hooks.Exec(ctx, "echo", "the loop goes on meanwhile")
		fmt.Printf("%s", out.Stdout)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: the loop goes on meanwhile
}

// From here to Disable, http.Get goes over Whorl.
func ExampleEnable() {
	if err := hooks.Enable(); err != nil {
		fmt.Println(err)
		return
	}
	defer hooks.Disable()
	fmt.Println(http.DefaultTransport.(*http.Transport).DialContext != nil)
	// Output: true
}
