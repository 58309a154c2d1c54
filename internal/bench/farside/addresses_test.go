//go:build linux

package farside

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConnectionsGoToAddressAfterAddress(t *testing.T) {
	for n, want := range map[int]string{
		0:              "127.0.0.1:4711",
		PerAddress - 1: "127.0.0.1:4711",
		PerAddress:     "127.0.0.2:4711",
		99_999:         "127.0.0.5:4711",
	} {
		if got, err := Address("127.0.0.1:4711", n); err != nil || got != want {
			t.Errorf("connection %d goes to %s, %v", n, got, err)
		}
	}
	for _, addr := range []string{"", "localhost:1", "[::1]:1"} {
		if got, err := Address(addr, 0); err == nil {
			t.Errorf("%q is %s", addr, got)
		}
	}
}

// It listens on all the addresses that connections go to.
func TestTheBareEchoListensOnAllAddresses(t *testing.T) {
	all, err := listenAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		defer unix.Close(l.fd)
		want, err := Address(all[0].Addr().String(), i*PerAddress)
		if err != nil || l.Addr().String() != want {
			t.Errorf("listener %d is at %v, not %s, %v", i, l.Addr(), want, err)
		}
	}
}

func TestASpreadServerListensOnAllAddresses(t *testing.T) {
	s := started(t, Config{Role: Hello, Spread: true})
	for i := range addresses {
		address, err := Address(s.Addr(), i*PerAddress)
		check(t, err)
		conn, err := net.Dial("tcp", address)
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(patience)))
		said := make([]byte, 1)
		if _, err := io.ReadFull(conn, said); err != nil || string(said) != "!" {
			t.Errorf("%s says %q, %v", address, said, err)
		}
	}
}
