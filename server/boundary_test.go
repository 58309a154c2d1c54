//go:build linux

package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// A boundaryVerb uses a connection as a program would, and returns what it was told. sendVerbs and
// receiveVerbs have all, under their methods' names.
type boundaryVerb func(ctx context.Context, c *server.Conn) error

func sendVerbs(file string) map[string]boundaryVerb {
	nothing := []byte("in the clear\n")
	socketVerb := func(fn func(ctx context.Context, s *socket.Socket) (int, error)) boundaryVerb {
		return func(ctx context.Context, c *server.Conn) error {
			_, err := fn(ctx, c.Socket())
			return err
		}
	}
	return map[string]boundaryVerb{
		"Send": func(ctx context.Context, c *server.Conn) error {
			_, err := c.Send(ctx, nothing)
			return err
		},
		"SendFile": func(ctx context.Context, c *server.Conn) error {
			_, err := c.SendFile(ctx, file, 0, 0)
			return err
		},
		"Socket.Send": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return s.Send(ctx, nothing)
		}),
		"Socket.SendAll": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return s.SendAll(ctx, nothing)
		}),
		"Socket.SendSoon": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return s.SendSoon(ctx, nothing)
		}),
		"Socket.WriteVector": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return s.WriteVector(ctx, [][]byte{nothing})
		}),
		"Socket.WriteVectorAll": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return s.WriteVectorAll(ctx, [][]byte{nothing})
		}),
		"Socket.SendFile": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			f, err := os.Open(file)
			if err != nil {
				return 0, err
			}
			defer f.Close()
			_, err = s.SendFile(ctx, f, 0, 0)
			return 0, err
		}),
		"Socket.Shutdown": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return 0, s.Shutdown(ctx, socket.ShutdownWrite)
		}),
		"Socket.Flush": socketVerb(func(ctx context.Context, s *socket.Socket) (int, error) {
			return 0, s.Flush(ctx)
		}),
	}
}

func receiveVerbs() map[string]boundaryVerb {
	socketVerb := func(fn func(ctx context.Context, s *socket.Socket) error) boundaryVerb {
		return func(ctx context.Context, c *server.Conn) error { return fn(ctx, c.Socket()) }
	}
	return map[string]boundaryVerb{
		"Recv": func(ctx context.Context, c *server.Conn) error { _, err := c.Recv(ctx); return err },
		"Peek": func(_ context.Context, c *server.Conn) error {
			_, err := c.Peek(make([]byte, 1))
			return err
		},
		"Packets": func(ctx context.Context, c *server.Conn) error {
			for _, err := range c.Packets(ctx) {
				return err
			}
			return nil
		},
		"EnableSSL": func(ctx context.Context, c *server.Conn) error { return c.EnableSSL(ctx) },
		"EnableSSLAsync": func(ctx context.Context, c *server.Conn) error {
			outcome := make(chan error, 1)
			c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { outcome <- err })
			if server.House(c.Socket()).OnLoop() {
				return <-outcome // it was told at once
			}
			return await(ctx, outcome)
		},
		"Socket.Recv": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.Recv(ctx, make([]byte, 1))
			return err
		}),
		"Socket.RecvAll": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvAll(ctx, make([]byte, 1))
			return err
		}),
		"Socket.RecvLine": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvLine(ctx, 10)
			return err
		}),
		"Socket.RecvPacket": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.RecvPacket(ctx)
			return err
		}),
		"Socket.Packets": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			for _, err := range s.Packets(ctx) {
				return err
			}
			return nil
		}),
		"Socket.ReadVector": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.ReadVector(ctx, [][]byte{make([]byte, 1)})
			return err
		}),
		"Socket.ReadVectorAll": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.ReadVectorAll(ctx, [][]byte{make([]byte, 1)})
			return err
		}),
		"Socket.Peek": socketVerb(func(_ context.Context, s *socket.Socket) error {
			_, err := s.Peek(make([]byte, 1))
			return err
		}),
		"Socket.SetProtocol": socketVerb(func(_ context.Context, s *socket.Socket) error {
			return s.SetProtocol(nil)
		}),
		"Socket.SetServerRole": socketVerb(func(_ context.Context, s *socket.Socket) error {
			return s.SetServerRole(false)
		}),
		"Socket.SSLHandshake": socketVerb(func(ctx context.Context, s *socket.Socket) error {
			return s.SSLHandshake(ctx, serverTLS())
		}),
	}
}

// otherMethods neither send nor receive on a connection.
const otherMethods = "Abort AtEnd Bind Close ConnectionState ID Info Listener LocalAddr Pause " +
	"Protect Proxied RemoteAddr RemoteAddrPort Resume Server SetValue Socket UID Value " +
	"Socket.Abort Socket.Alive Socket.Buffered Socket.Cancel Socket.Close Socket.Connected " +
	"Socket.ConnectionState Socket.FD Socket.File Socket.LocalAddr Socket.Loop Socket.Network " +
	"Socket.Option Socket.PeerIdentity Socket.RemoteAddr Socket.SetBuffers Socket.SetKeepAlive " +
	"Socket.SetLinger Socket.SetNoDelay Socket.SetOption Socket.SetResolver Socket.SetReusePort " +
	"Socket.SetTimeouts Socket.Timeouts " +
	// Not when connected.
	"Socket.Accept Socket.Bind Socket.BindOnConnect Socket.Connect Socket.Listen Socket.Listening " +
	"Socket.RecvFrom Socket.SendTo" // for datagrams

// A method that is new is one of the verbs at the boundary, or is said to be none.
func TestTheBoundaryIsForAllVerbs(t *testing.T) {
	known := strings.Fields(otherMethods)
	known = slices.AppendSeq(known, maps.Keys(sendVerbs("")))
	known = slices.AppendSeq(known, maps.Keys(receiveVerbs()))
	slices.Sort(known)
	var all []string
	for prefix, of := range map[string]reflect.Type{
		"": reflect.TypeFor[*server.Conn](), "Socket.": reflect.TypeFor[*socket.Socket](),
	} {
		for m := range of.Methods() {
			all = append(all, prefix+m.Name)
		}
	}
	slices.Sort(all)
	if !slices.Equal(all, known) {
		t.Errorf("there are %v,\nknown are %v", all, known)
	}
}

// callers call a function from wherever a program can be, and return what it returns.
var callers = map[string]func(h *house, c *server.Conn, fn func(ctx context.Context) error) error{
	"loop": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		check(h.t, home.Loop().Post(func() { outcome <- fn(h.ctx()) }))
		return receive(h.t, outcome)
	},
	"coroutine": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		check(h.t, home.Loop().Post(func() { runtime.Go(h.ctx(), func(ctx context.Context) { outcome <- fn(ctx) }) }))
		return receive(h.t, outcome)
	},
	"coroutine of another loop": func(h *house, c *server.Conn, fn func(ctx context.Context) error) error {
		home, _ := server.House(c.Socket()).Home()
		outcome := make(chan error, 1)
		for _, loop := range h.rt.Loops() {
			if loop != home.Loop() {
				check(h.t, loop.Post(func() { runtime.Go(h.ctx(), func(ctx context.Context) { outcome <- fn(ctx) }) }))
			}
		}
		return receive(h.t, outcome)
	},
	"goroutine": func(h *house, _ *server.Conn, fn func(ctx context.Context) error) error { return fn(h.ctx()) },
}

// While STARTTLS waits for the client's hello, and while it shakes hands, no verb does anything,
// wherever it is called: ErrBusy, nothing goes out in the clear, the hello is nobody's plaintext,
// and the upgrade goes on. What callbacks send is kept, and goes out encrypted.
func TestNothingPassesTheBoundary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte("in the clear\n"), 0o600))
	for _, handler := range []bool{true, false} {
		for _, computing := range []bool{false, true} {
			for _, where := range []string{"coroutine", "goroutine"} {
				if !handler && where == "goroutine" {
					continue
				}
				t.Run(fmt.Sprintf("handler %v/computing %v/upgraded by a %s", handler, computing, where), func(t *testing.T) {
					atTheBoundary(t, file, handler, computing, where == "goroutine")
				})
			}
		}
	}
}

func atTheBoundary(t *testing.T, file string, handler, computing, byGoroutine bool) {
	gate, outcome, conns := make(chan struct{}), make(chan error, 1), make(chan *server.Conn, 1)
	port := server.Port{EOF: "\n", TLS: gatedTLS(gate), HandshakeTimeout: time.Hour}
	if handler {
		port.Handle = func(ctx context.Context, c *server.Conn) {
			c.SetValue("learnt in plaintext")
			conns <- c
			if byGoroutine {
				outcome <- await(ctx, func() chan error {
					done := make(chan error, 1)
					go func() { done <- c.EnableSSL(ctx) }()
					return done
				}())
			} else {
				outcome <- c.EnableSSL(ctx)
			}
			echo(ctx, c)
		}
	} else {
		port.OnReceive = echoBack
		port.OnConnect = func(ctx context.Context, c *server.Conn) {
			c.SetValue("learnt in plaintext")
			conns <- c
			c.EnableSSLAsync(ctx, func(_ context.Context, _ *server.Conn, err error) { outcome <- err })
		}
	}
	h, l := start(t, "tcp", server.Config{Port: port})
	raw := dial(t, l)
	c := receive(t, conns)
	secure := tls.Client(raw, clientTLS())
	shaken := make(chan error, 1)
	if computing {
		go func() { shaken <- secure.Handshake() }()
		until(t, "the handshake computes", func() bool { return h.Stats().Handshaking == 1 })
	} else {
		until(t, "the upgrade has begun", func() bool { return server.House(c.Socket()).Sending() })
		check(t, raw.SetReadDeadline(time.Now()))
	}
	kept := 0
	verbs := receiveVerbs()
	maps.Copy(verbs, sendVerbs(file))
	for verb, fn := range verbs {
		for caller, call := range callers {
			if !handler && slices.Contains([]string{"Recv", "Packets", "EnableSSL"}, verb) {
				continue // not for callbacks at any time
			}
			err := call(h, c, func(ctx context.Context) error { return fn(ctx, c) })
			if !handler && verb == "Send" {
				check(t, err)
				kept++
				continue
			}
			wantError(t, verb+" on a "+caller, err, socket.ErrBusy)
		}
	}
	check(t, h.Send(c.ID(), []byte("by ID\n")))
	if !computing {
		if n, _ := raw.Read(make([]byte, 1)); n > 0 {
			t.Error("something was sent in the clear")
		}
		check(t, raw.SetReadDeadline(time.Now().Add(patience)))
		go func() { shaken <- secure.Handshake() }()
	}
	close(gate)
	check(t, receive(t, shaken))
	check(t, receive(t, outcome))
	received := make([]byte, kept*len("in the clear\n")+len("by ID\n"))
	_, err := io.ReadFull(secure, received)
	check(t, err)
	trip(t, secure, "goes on\n")
	check(t, callers["loop"](h, c, func(context.Context) error {
		if c.Value() != nil {
			t.Error("what was learnt in plaintext is kept")
		}
		return nil
	}))
}
