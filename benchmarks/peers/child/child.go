//go:build linux

// Package child runs a server in a process of its own and tells what that process used. The clock that it reads is the kernel's CPU clock of the process, which
// counts nanoseconds; what other processes do meanwhile isn't in it.
package child

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/echo"
)

// Child is a running server. Its methods are for one goroutine at a time.
type Child struct {
	Addr string // where it listens

	cmd   *exec.Cmd
	in    io.WriteCloser
	reply *bufio.Reader
	file  *os.File // reply's
	log   head
}

// answerTime bounds each answer of a child. A collection with very many connections takes seconds.
const answerTime = time.Minute

// Start runs program with args as the server that config asks for, on the given CPUs only (all, if nil), and waits until it listens. A Go server sees
// just these CPUs and sets GOMAXPROCS by them.
func Start(config echo.Config, cpus *unix.CPUSet, program string, args ...string) (*Child, error) {
	reply, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &Child{cmd: exec.Command(program, args...), reply: bufio.NewReader(reply), file: reply}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	c.cmd.ExtraFiles = []*os.File{theirs}
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = startOn(cpus, c.cmd)
	}
	theirs.Close() // Now the pipe ends with the child.
	if err != nil {
		reply.Close()
		return nil, fmt.Errorf("child: %s: %w", config.Server, err)
	}
	var hello greeting
	if err = json.NewEncoder(c.in).Encode(config); err == nil || errors.Is(err, unix.EPIPE) {
		err = c.read(&hello)
	}
	if err == nil && hello.Error != "" {
		err = errors.New(hello.Error)
	}
	if err != nil {
		c.Stop()
		return nil, fmt.Errorf("child: %s: %w\n%s", config.Server, err, c.log.text())
	}
	c.Addr = hello.Addr
	return c, nil
}

// startOn starts cmd from a thread that may run on cpus only: a new process inherits that.
func startOn(cpus *unix.CPUSet, cmd *exec.Cmd) error {
	if cpus == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, cpus); err != nil {
		return err
	}
	err := cmd.Start()
	if errBack := unix.SchedSetaffinity(0, &before); errBack != nil {
		return errBack // The thread stays locked, and goes with its goroutine.
	}
	runtime.UnlockOSThread()
	return err
}

func (c *Child) read(v any) error {
	if err := c.file.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	line, err := c.reply.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return json.Unmarshal(line, v)
}

// Memory has the child collect its garbage and tell what is left.
func (c *Child) Memory() (m Memory, err error) {
	if _, err := io.WriteString(c.in, memoryCommand+"\n"); err != nil {
		return m, err
	}
	return m, c.read(&m)
}

// Stop ends the child. Its connections are closed by the kernel.
func (c *Child) Stop() error {
	c.in.Close()
	c.cmd.Process.Kill()
	c.file.Close()
	var killed *exec.ExitError
	if err := c.cmd.Wait(); err != nil && !errors.As(err, &killed) {
		return err
	}
	return nil
}

// head keeps the beginning of what a server logs, to show it when the server doesn't start.
type head struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const logRoom = 4096

func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p[:min(len(p), logRoom-t.buf.Len())])
	return len(p), nil
}

func (t *head) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
