//go:build interop

package interop

import (
	"bytes"
	"crypto/tls"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/tlsconfig"
)

// patience is how long something that should happen soon may take on a busy machine.
const patience = 30 * time.Second

// A process is a server that a test has started. It ends with the test, with all processes that it has started itself.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Writer
	ended chan struct{}

	mu     sync.Mutex
	output bytes.Buffer // of both kinds; guarded by mu
}

// need fails the test unless the programs are there.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: see the package's documentation for what to install", err)
		}
	}
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second):
		}
		p.signal(syscall.SIGKILL) // what is left of the group
		<-p.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.said())
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// expect waits until the process has printed a text.
func (p *process) expect(text string) {
	p.t.Helper()
	if !eventually(func() bool { return strings.Contains(p.said(), text) || p.over() }) || !strings.Contains(p.said(), text) {
		p.t.Fatalf("%s didn't print %q", p.cmd.Args[0], text)
	}
}

// tell types a line.
func (p *process) tell(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, text+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// eventually waits until done returns true, and reports whether it did in time.
func eventually(done func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

// Certificates and folders.

func newCA(t *testing.T) *tlsconfig.CA {
	t.Helper()
	ca, err := tlsconfig.NewCA("Whorl interop CA")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func sign(t *testing.T, ca *tlsconfig.CA, request tlsconfig.Request) tls.Certificate {
	t.Helper()
	cert, err := ca.Sign(request)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// folder makes a folder that other users, too, can look into, which t.TempDir's can't.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "whorl-interop-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write writes a file below dir and returns its name.
func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate writes ca.pem, cert.pem and key.pem for a server at localhost.
func certificate(t *testing.T, dir string, ca *tlsconfig.CA) {
	t.Helper()
	chain, key, err := tlsconfig.EncodePEM(sign(t, ca, tlsconfig.Request{Names: []string{"localhost", "127.0.0.1"}}))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "ca.pem", ca.PEM())
	write(t, dir, "cert.pem", chain)
	write(t, dir, "key.pem", key)
}
