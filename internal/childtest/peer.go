package childtest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
)

// peerVariable is set in the environment of a peer.
const peerVariable = "WHORL_TEST_PEER"

// Main is for the beginning of TestMain, before anything else. In a process that [Peer] has started
// it calls serve, which starts servers and returns where they are, in a form that JSON can hold; it
// tells that process's parent, waits until the parent is done with them, and ends the process.
// Elsewhere it does nothing.
func Main(serve func() (where any, err error)) {
	if os.Getenv(peerVariable) == "" {
		return
	}
	where, err := serve()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(where)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Peer starts the test binary again, as the other side of a benchmark whose own CPU time alone is
// to be measured, and puts what the serve function of [Main] has returned there where the pointer
// says. That process ends with the benchmark.
func Peer(t testing.TB, where any) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), peerVariable+"=1")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the other side: %v", err)
		}
	})
	if err := json.NewDecoder(out).Decode(where); err != nil {
		t.Fatalf("the other side says nothing: %v", err)
	}
}

// Listen has a peer serve connections at an address, over TLS if there is a configuration, and
// returns the address. serve is called for each connection, on a goroutine of its own; its error is
// the client's leaving, of which nobody has to know.
func Listen(
	network, address string,
	config *tls.Config,
	serve func(net.Conn) error,
) (string, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return "", err
	}
	where := l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return where, nil
}

// Echo sends back what comes. Its buffer is small, as there may be very many connections.
func Echo(conn net.Conn) error {
	buf := make([]byte, 512)
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
