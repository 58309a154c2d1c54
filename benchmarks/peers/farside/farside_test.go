//go:build linux

package farside

import (
	"strings"
	"testing"
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
func TestListensOnAllAddresses(t *testing.T) {
	all, err := listenAll(listen)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range all {
		want, err := Address(all[0].Addr().String(), i*PerAddress)
		if err != nil || l.Addr().String() != want {
			t.Errorf("listener %d is at %v, not %s, %v", i, l.Addr(), want, err)
		}
	}
}

func TestWhatItCannotDoIsAnError(t *testing.T) {
	for config, want := range map[string]string{`{"Does":"dance"}`: "dance", `{`: "configuration", `{"Does":"sink","TLS":true}`: "PEM"} {
		if err := Serve([]byte(config), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
