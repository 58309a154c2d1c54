package chaos_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// roleVariable has the test binary be one of the processes.
const roleVariable = "WHORL_CHAOS_ROLE"

func TestMain(m *testing.M) {
	role, rest, _ := strings.Cut(os.Getenv(roleVariable), " ")
	switch role {
	case "nats":
		runNATS(strings.Fields(rest))
	case "node":
		runNode(strings.Fields(rest))
	default:
		leaktest.Main(m)
	}
}

// untilInputEnds waits for the end of the parent, or of what it holds of this process.
func untilInputEnds() { io.Copy(io.Discard, os.Stdin) }

func fatal(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// runNATS is a server of a cluster: its number, the folder of its stream or "-", and all ports,
// those of clients first.
func runNATS(args []string) {
	var own int
	fmt.Sscan(args[0], &own)
	ports := make([]int, len(args)-2)
	for i := range ports {
		fmt.Sscan(args[i+2], &ports[i])
	}
	n := len(ports) / 2
	options := &server.Options{
		ServerName: fmt.Sprint(
			"nats",
			own,
		), Host: "127.0.0.1", Port: ports[own], NoSigs: true, NoLog: true,
		Cluster:       server.ClusterOpts{Name: "chaos", Host: "127.0.0.1", Port: ports[n+own]},
		WriteDeadline: 2 * time.Second,
	}
	for i := range n {
		options.Routes = append(
			options.Routes,
			server.RoutesFromStr(fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))...)
	}
	if args[1] != "-" {
		options.JetStream, options.StoreDir = true, args[1]
	}
	s, err := server.NewServer(options)
	fatal(err)
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		fatal(fmt.Errorf("the server doesn't start"))
	}
	fmt.Println("ready")
	untilInputEnds()
	s.Shutdown()
}

// A process is one of the nodes or servers.
type process struct {
	t    testing.TB
	role string

	mu    sync.Mutex
	cmd   *exec.Cmd
	input io.Closer
}

func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+p.role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(p.t, err)
	out, err := cmd.StdoutPipe()
	check(p.t, err)
	check(p.t, cmd.Start())
	p.cmd, p.input = cmd, in
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		p.t.Errorf("%s: %q, %v", p.role, line, err)
	}
}

// kill ends it with SIGKILL.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.input.Close()
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Process.Signal(s)
}

// A proxy stands between a node and a server, and lets nothing through when it is cut.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   chan struct{} // closed when it is whole; nil: it is
	conns map[net.Conn]struct{}
	work  sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mend()
		p.reset()
		p.work.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns[near], p.conns[far] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.work.Go(func() { p.copy(near, far) })
		p.work.Go(func() { p.copy(far, near) })
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, from)
		p.mu.Unlock()
		from.Close()
		to.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		cut := p.cut
		p.mu.Unlock()
		if cut != nil {
			<-cut // what has come goes on its way when it is whole again
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == nil {
		p.cut = make(chan struct{})
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

// reset ends all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
