//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = leaktest.Patience

var check = leaktest.Check

// serving starts a server on a runtime of its own and returns its address. If config.TLS is not nil
// it gets a certificate, which the test's clients trust.
func serving(t *testing.T, config farside.Config) (address string, server *farside.Server) {
	t.Helper()
	if config.TLS != nil {
		cert, err := authority(t).Issue("localhost", "127.0.0.1")
		check(t, err)
		config.TLS.Certificates = []tls.Certificate{cert}
	}
	config.Listen, config.Timeout = or(config.Listen, "127.0.0.1:0"), patience
	rt := runtimetest.Start(t, append(runtimetest.Quiet(t), runtime.WithLoops(1))...)
	server, err := farside.Start(rt, config)
	check(t, err)
	return server.Addr(), server
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// options returns the options of a short run against the address.
func options(mode Mode, address string) Options {
	return Options{
		Mode: mode, Target: address, Command: "whorl bench", Connections: 4, Operations: 20,
		Timeout: patience, Grace: patience, Loops: 2, Source: AutoSource,
		Size: 100, Framing: message.Length, Direction: Send, Hold: HoldSocket,
	}
}

// bench makes a run that has to come to an end.
func bench(t *testing.T, o Options) *report.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	r, err := Run(ctx, o)
	check(t, err)
	if r.Interrupted {
		t.Fatal("the run didn't end by itself")
	}
	return r
}

// faultless is bench for a run in which everything has to succeed.
func faultless(t *testing.T, o Options) *report.Result {
	t.Helper()
	r := bench(t, o)
	if len(r.Errors) > 0 {
		t.Fatalf("errors: %v, such as %v", r.Errors, r.Examples)
	}
	return r
}

// trusting is a client's configuration for the servers of the test.
func trusting(t testing.TB) *tls.Config {
	return &tls.Config{RootCAs: authority(t).Pool(), MinVersion: tls.VersionTLS12}
}

// starttls finds a protocol.
func starttls(t testing.TB, name string) *dialogue.Protocol {
	t.Helper()
	p, err := dialogue.Lookup(name)
	check(t, err)
	return p
}

// scripted starts a server that gives each connection, with its number from 0, to a function on a
// goroutine. At the end of the test all connections are closed.
func scripted(t *testing.T, serve func(number int, conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var mu sync.Mutex
	var open []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for number := 0; ; number++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				serve(number, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// says makes a scripted connection that says each text when something has come for the one before
// it.
func says(conn net.Conn, texts ...string) {
	buf := make([]byte, 4096)
	for i, text := range texts {
		if i > 0 {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			return
		}
	}
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

func hasNote(r *report.Result, part string) bool {
	return strings.Contains(strings.Join(r.Notes, "\n"), part)
}
