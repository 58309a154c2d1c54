package childtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

type where struct{ Echo string }

func TestMain(m *testing.M) {
	Main(func() (any, error) {
		addr, err := Listen("tcp", "127.0.0.1:0", nil, Echo)
		return where{addr}, err
	})
	os.Exit(m.Run())
}

func TestPeerServesUntilTheTestEnds(t *testing.T) {
	var w where
	t.Run("its test", func(t *testing.T) {
		Peer(t, &w)
		conn, err := net.Dial("tcp", w.Echo)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintln(conn, "hello")
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
			t.Errorf("read %q, %v", line, err)
		}
	})
	if conn, err := net.Dial("tcp", w.Echo); err == nil {
		conn.Close()
		t.Error("it is still there")
	}
}

func TestAloneIsAnotherProcess(t *testing.T) {
	const variable = "WHORL_TEST_PARENT"
	if Alone(t, fmt.Sprint(variable, "=", os.Getpid())) && os.Getenv(variable) != fmt.Sprint(os.Getppid()) {
		t.Errorf("process %d was started by %d, %s=%q", os.Getpid(), os.Getppid(), variable, os.Getenv(variable))
	}
}

// failures is a test that notes whether it failed.
type failures struct {
	testing.TB
	said string
}

func (f *failures) Errorf(format string, args ...any) { f.said += fmt.Sprintf(format, args...) }

func TestAloneTellsOfAFailure(t *testing.T) {
	if Is(t) {
		fmt.Println("what it said")
		os.Exit(3)
	}
	f := &failures{TB: t}
	if Alone(f) || !strings.Contains(f.said, "exit status 3") || !strings.Contains(f.said, "what it said") {
		t.Errorf("told: %q", f.said)
	}
}

func TestCommandHasItsOwnInputAndOutput(t *testing.T) {
	if Is(t) {
		io.Copy(os.Stdout, os.Stdin)
		os.Exit(0)
	}
	cmd := Command(t)
	cmd.Stdin = strings.NewReader("hello")
	if out, err := cmd.Output(); err != nil || string(out) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
}
