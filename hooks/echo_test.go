//go:build linux

package hooks_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The echo server of the benchmarks runs in a process of its own, so that a benchmark measures the client's CPU time alone: the test binary starts itself again
// with this variable set. That process ends when its standard input does.
const echoVariable = "WHORL_HOOKS_TEST_ECHO"

// startEchoes starts the process and returns where the server is.
func startEchoes(b *testing.B) (address string) {
	b.Helper()
	self, err := os.Executable()
	check(b, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), echoVariable+"=1")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	check(b, err)
	out, err := child.StdoutPipe()
	check(b, err)
	check(b, child.Start())
	b.Cleanup(func() {
		in.Close()
		child.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	check(b, err)
	return strings.TrimSpace(line)
}

// serveEchoes is the main function of that process.
func serveEchoes() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go func() {
				defer conn.Close()
				echo(conn) // an error is the client's leaving
			}()
		}
	}()
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
}

func echo(conn net.Conn) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}
