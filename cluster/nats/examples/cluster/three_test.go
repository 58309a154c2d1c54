//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// three is the example with -serve, in a process of its own.
type three struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
}

// nodeOf is what is printed of a node that serves.
type nodeOf struct {
	address string
	process int
}

func serveInAProcess(t *testing.T) *three {
	t.Helper()
	program, err := os.Executable()
	leaktest.Check(t, err)
	cmd := exec.Command(program, "-serve", "-history")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // it can't clean up when it is killed
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	leaktest.Check(t, err)
	leaktest.Check(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &three{t, cmd, bufio.NewReader(out)}
}

var serves = regexp.MustCompile(`^(\w+) on http://(.*)/, process (\d+)\n$`)

// next returns the node that the next line says serves.
func (p *three) next() (name string, n nodeOf) {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	leaktest.Check(p.t, err)
	found := serves.FindStringSubmatch(line)
	if found == nil {
		p.t.Fatalf("printed %q", line)
	}
	n.address = found[2]
	n.process, _ = strconv.Atoi(found[3])
	return found[1], n
}

func (p *three) all() map[string]nodeOf {
	p.t.Helper()
	nodes := map[string]nodeOf{}
	for range names {
		name, n := p.next()
		nodes[name] = n
	}
	if len(nodes) != len(names) {
		p.t.Fatalf("%v", nodes)
	}
	return nodes
}

// gone waits until nobody listens at the addresses.
func gone(t *testing.T, nodes map[string]nodeOf) {
	t.Helper()
	for name, n := range nodes {
		leaktest.Until(t, name+" has ended", func() bool {
			conn, err := net.Dial("tcp", n.address)
			if err == nil {
				conn.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	}
}

// Nodes end with the process that has started them, also if that can't say so.
func TestNodesEndWithTheirParent(t *testing.T) {
	p := serveInAProcess(t)
	nodes := p.all()
	leaktest.Check(t, p.cmd.Process.Kill())
	gone(t, nodes)
}

// A node that has ended by itself comes again, at its address, and all end in order with a signal.
func TestANodeComesAgain(t *testing.T) {
	p := serveInAProcess(t)
	nodes := p.all()
	before := nodes["beta"]
	leaktest.Check(t, syscall.Kill(before.process, syscall.SIGKILL))
	line, err := p.stdout.ReadString('\n')
	if want := fmt.Sprintf("beta has gone (signal: killed), and comes again in %v\n", absence); line != want {
		t.Fatalf("%q, %v; want %q", line, err, want)
	}
	name, after := p.next()
	if name != "beta" || after.address != before.address || after.process == before.process {
		t.Errorf("%s, %+v, was %+v", name, after, before)
	}
	leaktest.Check(t, p.cmd.Process.Signal(syscall.SIGINT))
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	gone(t, nodes)
}
