//go:build linux

package servers

import (
	"bytes"
	"io"
	"net"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// A Process is a program that a test has started. It ends with the test, with all processes that it
// has started itself. Methods that wait in vain end the test, so they are for its goroutine, or for
// one that it waits for.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Writer
	end   syscall.Signal
	ended chan struct{} // closed when it has ended and all that it has printed is there

	mu     sync.Mutex
	output bytes.Buffer // of both kinds; guarded by mu
}

// Start starts a program.
func Start(t testing.TB, program string, args ...string) *Process {
	t.Helper()
	return start(t, exec.Command(Find(t, program), args...))
}

func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, end: syscall.SIGTERM, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = (*printed)(p), (*printed)(p)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGTERM
	cmd.WaitDelay = time.Second // for processes of its own that have left the group
	var err error
	p.stdin, err = cmd.StdinPipe()
	leaktest.Check(t, err)
	started := make(chan error)
	go func() {
		// Pdeathsig comes when the thread ends that has started the process,
		// PR_SET_PDEATHSIG(2const).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.ended)
		}
	}()
	leaktest.Check(t, <-started)
	t.Cleanup(p.stop)
	return p
}

// EndBy sets by which signal the process is ended with the test, if not by SIGTERM.
func (p *Process) EndBy(signal syscall.Signal) *Process {
	p.end = signal
	return p
}

func (p *Process) stop() {
	group := -p.cmd.Process.Pid
	syscall.Kill(group, p.end)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Errorf("%s doesn't end", p)
	}
	syscall.Kill(group, syscall.SIGKILL) // what is left of the group
	<-p.ended
	if p.t.Failed() {
		said := p.Said()
		p.t.Logf("%s said in the end:\n%s", p, said[max(0, len(said)-1<<16):])
	}
}

// printed is the process as what its output is written to.
type printed Process

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// String returns the name of the program.
func (p *Process) String() string { return p.cmd.Args[0] }

// Said returns what the process has printed so far. What it is going to print has to be waited for.
func (p *Process) Said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Until waits until what the process has printed fulfils a condition, and reports whether it does.
// It is false when the process ends without, or when nothing more comes for too long.
func (p *Process) Until(condition func(said string) bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && !p.Over() && !condition(p.Said()); {
		<-tick.C
	}
	return condition(p.Said())
}

// Expect waits until the process has printed a text.
func (p *Process) Expect(text string) {
	p.t.Helper()
	if !p.Until(func(said string) bool { return strings.Contains(said, text) }) {
		p.t.Fatalf("%s didn't print %q", p, text)
	}
}

// Match waits until the process has printed what a regular expression matches, and returns the
// match and what its groups have matched.
func (p *Process) Match(expression string) (match []string) {
	p.t.Helper()
	compiled := regexp.MustCompile(expression)
	if !p.Until(
		func(said string) bool { match = compiled.FindStringSubmatch(said); return match != nil },
	) {
		p.t.Fatalf("%s didn't print what %s matches", p, expression)
	}
	return match
}

// Tell types a line.
func (p *Process) Tell(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, line+"\n")
	leaktest.Check(p.t, err)
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(signal syscall.Signal) {
	p.t.Helper()
	leaktest.Check(p.t, p.cmd.Process.Signal(signal))
}

// Over reports whether the process has ended. If so all that it has printed is there.
func (p *Process) Over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Ended waits until the process ends by itself, and returns its exit status, which is -1 if a
// signal has ended it.
func (p *Process) Ended() (status int) {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%s doesn't end", p)
		return -1
	}
}

// Dial connects to where the process listens, as soon as it does.
func (p *Process) Dial(network, addr string) (conn net.Conn) {
	p.t.Helper()
	var err error
	if !p.Until(func(string) bool {
		if conn == nil {
			conn, err = net.Dial(network, addr)
		}
		return conn != nil
	}) {
		p.t.Fatalf("%s doesn't come up: %v", p, err)
	}
	return conn
}
