//go:build linux

// Package child runs a server or a client in a process of its own and tells what that process used.
// The clock that it reads is the kernel's CPU clock of the process, which counts nanoseconds; what
// other processes do meanwhile isn't in it.
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

	"github.com/whorl-go/whorl/internal/bench/proc"
)

// Spec says what a child is.
type Spec struct {
	Name    string   // for errors
	Program string   // its path
	Args    []string // its arguments
	Config  any      // sent to it as JSON
	// it runs on these only; nil: on all. A Go program sees just these CPUs and sets GOMAXPROCS by
	// them.
	CPUs    *unix.CPUSet
	Counted bool // it gets a page of counters, in which it tells how much it has done
}

// Child is a process that runs. Its methods are for one goroutine at a time.
type Child struct {
	Addr string // where it listens, if it does

	counters *Counters // nil if it isn't Counted

	cmd   *exec.Cmd
	in    io.WriteCloser
	reply *bufio.Reader
	file  *os.File // reply's
	log   head
}

// answerTime bounds each answer of a child. A collection with very many connections takes seconds,
// and opening them over TLS minutes.
const answerTime = 10 * time.Minute

// Start starts a child and waits until it is ready.
func Start(spec Spec) (*Child, error) {
	c := &Child{cmd: exec.Command(spec.Program, spec.Args...)}
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.begin(spec); err != nil {
		return nil, fmt.Errorf("child: %s: %w", spec.Name, err)
	}
	var hello greeting
	err := json.NewEncoder(c.in).Encode(spec.Config)
	if err == nil || errors.Is(err, unix.EPIPE) {
		err = c.read(&hello)
	}
	if err == nil && hello.Error != "" {
		err = errors.New(hello.Error)
	}
	if err != nil {
		c.Stop()
		return nil, fmt.Errorf("child: %s: %w\n%s", spec.Name, err, c.log.text())
	}
	c.Addr = hello.Addr
	return c, nil
}

// begin starts the process, with its pipes and its counters.
func (c *Child) begin(spec Spec) error {
	reply, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close() // With the child's end closed here the pipe ends with the child.
	c.file, c.reply = reply, bufio.NewReader(reply)
	c.cmd.ExtraFiles = []*os.File{theirs}
	if spec.Counted {
		var page *os.File
		if c.counters, page, err = newCounters(); err != nil {
			reply.Close()
			return err
		}
		defer page.Close()
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, page)
	}
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		err = startOn(spec.CPUs, c.cmd)
	}
	if err != nil {
		reply.Close()
		c.counters.close()
	}
	return err
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

// Command has the child carry out a command, and waits for the answer, which is put where result
// points to unless that is nil.
func (c *Child) Command(name string, result any) error {
	if _, err := io.WriteString(c.in, name+"\n"); err != nil {
		return fmt.Errorf("child: %s: %w\n%s", name, err, c.log.text())
	}
	var a answer
	if err := c.read(&a); err != nil {
		return fmt.Errorf("child: %s: %w\n%s", name, err, c.log.text())
	}
	if a.Error != "" {
		return fmt.Errorf("child: %s: %s", name, a.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// Memory has the child collect its garbage and tell what is left.
func (c *Child) Memory() (m proc.Memory, err error) {
	return m, c.Command(memoryCommand, &m)
}

// Count returns how much the child has done since it began. It is for a child that is Counted.
func (c *Child) Count() int64 { return c.counters.Sum() }

// Stop ends the child. Its connections are closed by the kernel.
func (c *Child) Stop() error {
	c.in.Close()
	c.cmd.Process.Kill()
	c.file.Close()
	c.counters.close()
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
