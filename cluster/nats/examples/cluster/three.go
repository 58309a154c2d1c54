package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/program"
)

// names are those of the three nodes.
var names = []string{"alpha", "beta", "gamma"}

const (
	patience = 15 * time.Second // with a process that is told to end; more than it takes at most
	absence  = 10 * time.Second // of a node that has ended by itself; more than nodeTimeout
)

// serveThree serves with three nodes until ctx is done, or a signal comes.
func serveThree(ctx context.Context, stdout io.Writer, urls string, history bool) error {
	ctx, stop := program.Interrupted(ctx)
	defer stop()
	if urls == "" {
		url, end, err := startNATS(history)
		if err != nil {
			return err
		}
		defer end()
		urls = url
	}
	children, err := startThree(urls, history)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, values ...any) { // which several do at once
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(stdout, format+"\n", values...)
	}
	var all sync.WaitGroup
	for _, c := range children {
		c.announce(say)
		all.Go(func() { c.keep(ctx, say) })
	}
	all.Wait()
	return nil
}

// startNATS starts a NATS server for the nodes, who have to know its token: it is in the URL.
func startNATS(history bool) (url string, end func(), err error) {
	var folder string
	if history {
		if folder, err = os.MkdirTemp("", "whorl-cluster-"); err != nil {
			return "", nil, err
		}
	}
	s, err := nats.Embedded(nats.EmbeddedConfig{Listen: true, JetStream: folder})
	if err != nil {
		os.RemoveAll(folder)
		return "", nil, err
	}
	return s.URL(), func() {
		s.Close(context.Background())
		os.RemoveAll(folder)
	}, nil
}

// A child is a node in a process of its own, which is this program again. Its standard input is a
// pipe, with whose end it ends: however this process ends, its children do, too.
type child struct {
	name, urls string
	history    bool
	address    string // where it listens, also when it is started again

	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{} // closed when it has
}

// startThree starts all, or none.
func startThree(urls string, history bool) (children []*child, err error) {
	for _, name := range names {
		c := &child{name: name, urls: urls, history: history, address: "127.0.0.1:0"}
		if err := c.start(); err != nil {
			stopAll(children)
			return nil, err
		}
		children = append(children, c)
	}
	return children, nil
}

// start starts the process, and returns when it serves.
func (c *child) start() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"-node", c.name, "-listen", c.address, "-nats", "-"}
	if c.history {
		args = append(args, "-history")
	}
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.cmd, c.input, c.ended = cmd, input, make(chan struct{})
	io.WriteString(input, c.urls+"\n") // what is wrong shows below
	stdout := bufio.NewReader(output)
	line, err := stdout.ReadString('\n')
	go func() {
		io.Copy(io.Discard, stdout)
		cmd.Wait() // how it has ended, nobody asks
		close(c.ended)
	}()
	if err != nil {
		c.stop()
		return fmt.Errorf("%s doesn't start: %v", c.name, cmd.ProcessState)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(line), " on http://")
	c.address = strings.TrimSuffix(url, "/")
	return nil
}

// stop has it end in order.
func (c *child) stop() {
	c.input.Close()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.kill()
	}
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.ended
}

func stopAll(children []*child) {
	var all sync.WaitGroup
	for _, c := range children {
		all.Go(c.stop)
	}
	all.Wait()
}

func (c *child) announce(say func(format string, values ...any)) {
	say("%s on http://%s/, process %d", c.name, c.address, c.cmd.Process.Pid)
}

// keep keeps it running until ctx is done.
func (c *child) keep(ctx context.Context, say func(format string, values ...any)) {
	for {
		select {
		case <-ctx.Done():
			c.stop()
			return
		case <-c.ended:
		}
		say("%s has gone (%v), and comes again in %v", c.name, c.cmd.ProcessState, absence)
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(absence):
			}
			err := c.start()
			if again = err == nil; !again {
				say("%v", err)
			}
		}
		c.announce(say)
	}
}
