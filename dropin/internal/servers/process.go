//go:build linux

// Package servers starts the real servers that the tests talk to: PostgreSQL, MariaDB, Redis and Postfix. Each has a folder of its own for its data and listens on
// the loopback only. It ends with the test, or with the test's process if that comes first. Its folder goes with the test.
package servers

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/tlsconfig"
)

// patience is how long something that should happen soon may take on a busy machine.
const patience = 60 * time.Second

// A home is where a server lives: a folder, with a certificate for localhost in cert.pem and key.pem, and the user that it runs as.
type home struct {
	t    testing.TB
	dir  string
	user *syscall.Credential // nil: the tests' own
	ca   *tlsconfig.CA
}

// newHome makes a home. Root hands it over to the user that the server insists on, or that Debian runs it as; anybody else runs it himself.
func newHome(t testing.TB, name string) *home {
	t.Helper()
	h := &home{t: t}
	var err error
	if h.dir, err = os.MkdirTemp("", "whorl-dropin-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(h.dir); err != nil {
			t.Error(err)
		}
	})
	if h.ca, err = tlsconfig.NewCA("Whorl drop-in CA"); err != nil {
		t.Fatal(err)
	}
	certificate, err := h.ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := tlsconfig.EncodePEM(certificate)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{"ca.pem": h.ca.PEM(), "cert.pem": chain, "key.pem": key} {
		if err := os.WriteFile(h.path(file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		h.user = credential(t, name)
		for _, file := range []string{"", "ca.pem", "cert.pem", "key.pem"} {
			h.own(file)
		}
	}
	return h
}

func credential(t testing.TB, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("%v: see the package's documentation for what to install", err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// own gives a file to the server's user.
func (h *home) own(name string) {
	h.t.Helper()
	if err := os.Chown(h.path(name), int(h.user.Uid), int(h.user.Gid)); err != nil {
		h.t.Fatal(err)
	}
}

// clientTLS returns what a client needs to trust the server.
func (h *home) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: h.ca.Pool(), ServerName: "localhost"}
}

func (h *home) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "HOME="+h.dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.user}
	return cmd
}

// prepare runs a command to its end.
func (h *home) prepare(name string, args ...string) {
	h.t.Helper()
	if out, err := h.command(name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// serve starts a server that ends with the test, by the signal, and returns how to tell whether it has ended.
func (h *home) serve(end syscall.Signal, name string, args ...string) (over func() bool) {
	h.t.Helper()
	log, err := os.Create(h.path("log"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := h.command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Pdeathsig = end
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	h.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, end)
		select {
		case <-ended:
		case <-time.After(patience / 2):
			h.t.Errorf("%s doesn't end", name)
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
		<-ended
		if said, _ := os.ReadFile(h.path("log")); h.t.Failed() {
			h.t.Logf("%s said in the end:\n%s", name, said[max(0, len(said)-4096):])
		}
	})
	return func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
}

// eventually waits until a server that was started is ready.
func (h *home) eventually(over func() bool, ready func() error) {
	h.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	err := errors.New("never tried")
	for end := time.Now().Add(patience); time.Now().Before(end) && !over(); <-tick.C {
		if err = ready(); err == nil {
			return
		}
	}
	h.t.Fatalf("the server doesn't come up: %v", err)
}

// accepts returns a ready that only sees whether somebody listens.
func accepts(addr string) func() error {
	return func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
}

// freeAddress returns an address of the loopback on which nobody listens, and its port. It is below those that the kernel gives to whoever doesn't ask for one, so
// that hardly anybody takes it before the server does.
func freeAddress(t testing.TB) (addr, port string) {
	t.Helper()
	for range 100 {
		port = strconv.Itoa(20_000 + rand.IntN(12_000))
		addr = net.JoinHostPort("127.0.0.1", port)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr, port
		}
	}
	t.Fatal("no port is free")
	return "", ""
}

// find returns the path of a program, which may be in one of the folders that are in nobody's PATH.
func find(t testing.TB, name string, folders ...string) string {
	t.Helper()
	for _, pattern := range folders {
		if found, _ := filepath.Glob(filepath.Join(pattern, name)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: see the package's documentation for what to install", err)
	}
	return path
}
