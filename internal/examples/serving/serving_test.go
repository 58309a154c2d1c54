//go:build unix

package serving_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

// stubborn is an example whose connections don't end when the server asks them to.
func stubborn(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("stubborn", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 7007)
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	s := server.New(server.Config{Port: server.Port{Handle: func(ctx context.Context, c *server.Conn) {
		c.Send(ctx, []byte("hello\n"))
		runtime.Sleep(ctx, time.Hour)
	}}})
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: s,
		Begin: func(_ context.Context, l *server.Listener) (string, error) {
			return fmt.Sprintln(l.Addr()), nil
		},
		Farewell: func() { s.Broadcast([]byte("bye\n"), nil) },
	}
	return example.Run(ctx, stdout)
}

// The test process again, as the example.
func TestMain(m *testing.M) {
	if os.Getenv("WHORL_TEST_SERVING") == "" {
		os.Exit(m.Run())
	}
	program.Main("stubborn", stubborn)
}

// start starts the example as a process, and returns where it listens.
func start(t *testing.T) (child *exec.Cmd, address string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child = exec.CommandContext(t.Context(), exe, "-listen", "127.0.0.1:0")
	child.Env = append(os.Environ(), "WHORL_TEST_SERVING=yes")
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return child, strings.TrimSpace(line)
}

func TestASignalEndsIt(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		child, _ := start(t)
		child.Process.Signal(signal)
		if err := child.Wait(); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
}

// A second signal doesn't wait for connections that are at work.
func TestASecondSignalEndsItAtOnce(t *testing.T) {
	child, address := start(t)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	child.Process.Signal(syscall.SIGINT)
	if line, err := lines.ReadString('\n'); line != "bye\n" {
		t.Fatalf("%q, %v", line, err)
	}
	go func() { // signals get their effect back soon, but when can't be seen
		for child.Process.Signal(syscall.SIGINT) == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	child.Wait()
	if got := child.ProcessState.String(); got != "signal: interrupt" {
		t.Error(got)
	}
}
