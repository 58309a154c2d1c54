//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

func Example_system() {
	err := runtime.Run(func(ctx context.Context) error {
		runtime.Go(ctx, func(ctx context.Context) {
			fmt.Println("other coroutine begins")
			runtime.Sleep(ctx, 10*time.Millisecond)
			fmt.Println("other coroutine ends")
		})
		for _, script := range []string{
			"echo out; sleep 1; exit 3",
			"echo out; echo err >&2",
			"kill -TERM $$",
		} {
			said, err := hooks.Exec(ctx, "sh", "-c", script)
			fmt.Printf("%d %q %q %v\n", said.Code, said.Stdout, said.Stderr, err)
		}

		text, err := runtime.Await(ctx, func() (string, error) { // several steps in one
			folder, err := os.MkdirTemp("", "sw")
			if err != nil {
				return "", err
			}
			defer os.RemoveAll(folder)
			file := filepath.Join(folder, "file")
			if err := os.WriteFile(file, []byte("one\n"), 0o600); err != nil {
				return "", err
			}
			if err := appendFile(file, "two\n"); err != nil {
				return "", err
			}
			data, err := os.ReadFile(file)
			return string(data), err
		})
		fmt.Printf("read %q %v\n", text, err)
		_, err = runtime.Await(ctx, func() ([]byte, error) { return os.ReadFile("no-such-file") })
		fmt.Println("read what is not there:", errors.Is(err, fs.ErrNotExist))

		addresses, err := lookup(ctx, "localhost")
		fmt.Println("look up localhost:", len(addresses) > 0, err)
		_, err = lookup(ctx, "no-such-host..invalid") // an empty label: no server is asked
		fmt.Println("look up what is no name: code", socket.Code(err))
		return nil
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// other coroutine begins
	// other coroutine ends
	// 3 "out\n" "" exit status 3
	// 0 "out\n" "err\n" <nil>
	// -1 "" "" signal: terminated
	// read "one\ntwo\n" <nil>
	// read what is not there: true
	// look up localhost: true <nil>
	// look up what is no name: code 711
	// <nil>
}

// appendFile is System::writeFile with FILE_APPEND. It blocks: for Await.
func appendFile(name, text string) error {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// lookup is System::getaddrinfo. Connect looks names up by itself, and off the loop.
func lookup(ctx context.Context, host string) ([]string, error) {
	return runtime.Await(ctx, func() ([]string, error) {
		return net.DefaultResolver.LookupHost(ctx, host)
	})
}
