package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/cluster/nats"
)

// serverVariable has the test binary be a server, see serve: on a port, with or without a folder
// for JetStream.
const serverVariable = "WHORL_TEST_NATS_SERVER"

// serve is a server process. It ends with its standard input.
func serve() {
	port, dir, _ := strings.Cut(os.Getenv(serverVariable), " ")
	number, _ := strconv.Atoi(port)
	s, err := nats.Embedded(nats.EmbeddedConfig{Listen: true, Port: number, Token: "test",
		JetStream: dir, Logger: zap.NewNop()})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // it is the end in either case
	s.Close(context.Background()) //nolint:errcheck // the process ends
}

// A process is a server of its own.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	end  io.Closer
	url  string
	port int
	dir  string
}

// spawn starts a server process on a port, 0 for any.
func spawn(t testing.TB, port int, dir string) *process {
	t.Helper()
	p := &process{t: t, port: port, dir: dir}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", serverVariable, p.port, p.dir))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	check(p.t, err)
	out, err := p.cmd.StdoutPipe()
	check(p.t, err)
	check(p.t, p.cmd.Start())
	p.end = in
	line, err := bufio.NewReader(out).ReadString('\n')
	check(p.t, err)
	p.url = strings.TrimSpace(line)
	if !strings.HasPrefix(p.url, "nats://") {
		p.t.Fatal(p.url)
	}
	_, port, err := net.SplitHostPort(p.url[strings.LastIndex(p.url, "@")+1:])
	check(p.t, err)
	p.port, err = strconv.Atoi(port)
	check(p.t, err)
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(s))
}

// kill ends it at once; if it has ended, that is all right.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.cmd.Wait()         //nolint:errcheck // it was killed
	p.end.Close()
}
