//go:build linux

package servers

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestProcessIsTalkedTo(t *testing.T) {
	leaktest.Guard(t)
	p := Start(t, "sh", "-c", `echo ready; read line; echo "it was told: $line"; echo "the end" >&2; exit 3`)
	p.Expect("ready")
	if p.Over() {
		t.Error("it has ended before it was told anything")
	}
	p.Tell("hello")
	if got := p.Match(`told: (\w+)\n`); got[1] != "hello" {
		t.Errorf("it was told %q", got)
	}
	if status := p.Ended(); status != 3 || !strings.HasSuffix(p.Said(), "the end\n") {
		t.Errorf("status %d, it said %q", status, p.Said())
	}
	if p.Until(func(said string) bool { return strings.Contains(said, "more") }) {
		t.Error("it says more")
	}
}

func TestProcessEndsWithAllThatItHasStarted(t *testing.T) {
	leaktest.Guard(t)
	var other string
	t.Run("its test", func(t *testing.T) {
		p := Start(t, "sh", "-c", `sh -c 'trap "" TERM; echo ready; while :; do sleep 1; done' & echo "other $!."; wait`)
		p.Expect("ready")
		other = p.Match(`other (\d+)\.\n`)[1]
	})
	leaktest.Until(t, "the other process is gone", func() bool {
		status, err := os.ReadFile("/proc/" + other + "/status")
		return err != nil || strings.Contains(string(status), "State:\tZ") // there may be nobody to collect it
	})
}

func TestDialWaitsForTheServer(t *testing.T) {
	leaktest.Guard(t)
	addr, port := FreeAddress(t)
	p := Start(t, "sh", "-c", `read line; echo listening`)
	go func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		l.Accept()
	}()
	conn := p.Dial("tcp", addr)
	defer conn.Close()
	if got := fmt.Sprint(conn.RemoteAddr().(*net.TCPAddr).Port); got != port {
		t.Errorf("port %s, want %s", got, port)
	}
}

func TestFreeAddressesDiffer(t *testing.T) {
	leaktest.Guard(t)
	seen := make(map[string]bool)
	for range 100 {
		addr, port := FreeAddress(t)
		if n, err := strconv.Atoi(port); err != nil || n < 20_000 || n >= 32_000 || seen[addr] {
			t.Errorf("%s was seen: %v; %v", addr, seen[addr], err)
		}
		seen[addr] = true
	}
}

func TestFolderIsReadableForOthersButTheKey(t *testing.T) {
	f := NewFolder(t)
	f.Certify(NewCA(t))
	for name, want := range map[string]os.FileMode{"": 0o755, "cert.pem": 0o644, "key.pem": 0o600, f.Write("a/b", "text")[len(f.Dir):]: 0o644} {
		info, err := os.Stat(f.Path(name))
		leaktest.Check(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %o, want %o", name, info.Mode().Perm(), want)
		}
	}
}
