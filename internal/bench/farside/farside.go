// Package farside is the other side of a benchmark: a server that sends back, swallows or pours
// out, in plaintext, over TLS, or after STARTTLS.
//
// It stands on package socket: a listener on each loop, a coroutine for each connection. Where it
// must not be what is waited for, there is [ServeBareEcho], which does one thing with nothing in
// between.
package farside

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket"
)

// A Role is what the server does with its connections.
type Role string

const (
	Echo   Role = "echo"   // sends back what comes
	Sink   Role = "sink"   // swallows what comes
	Source Role = "source" // sends messages for as long as it can
	// sends one byte, which brings a TLS client its session, and swallows what comes
	Hello Role = "hello"

	// Over WebSocket: sends back each message, or sends it to all.
	WebSocket Role = "websocket"
	Broadcast Role = "websocket-broadcast"
)

// Roles are the names of all of them.
var Roles = []string{string(Echo), string(Sink), string(Source), string(Hello),
	string(WebSocket), string(Broadcast)}

// Config says what a server does.
type Config struct {
	Listen   string             // "host:port", with a numeric host
	Spread   bool               // listen on the port of as many addresses as [Address] names
	Role     Role               // what it does with a connection
	TLS      *tls.Config        // nil: plaintext
	StartTLS *dialogue.Protocol // nil: TLS from the start
	Timeout  time.Duration      // of each step up to the end of the TLS handshake

	// Of role Source.

	Size    int             // of a message, in bytes
	Framing message.Framing // how messages end
}

// Check returns what is wrong with the configuration.
func (c *Config) Check() error {
	switch c.Role {
	case Echo, Sink, Hello:
	case WebSocket, Broadcast:
		if c.StartTLS != nil {
			return errors.New("a WebSocket has no STARTTLS")
		}
	case Source:
		if err := c.Framing.Check(c.Size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is no role; there are %s", c.Role, strings.Join(Roles, ", "))
	}
	if c.StartTLS != nil && c.TLS == nil {
		return errors.New("STARTTLS needs TLS")
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("a time-out of %v: want more than 0", c.Timeout)
	}
	return nil
}

// A Server serves until its runtime is shut down.
type Server struct {
	config    Config
	rt        *runtime.Runtime
	addresses []string
	message   []byte // what a source sends at a time

	webSocket *websocket.Server // of its roles; it has their figures

	accepted, handshakes, failed atomic.Int64
	shortage                     atomic.Bool
}

// Stats are what a server has done.
type Stats struct {
	Accepted   int64 // connections
	Handshakes int64 // that succeeded
	Failed     int64 // connections that failed before they came to their role
	Shortage   bool  // there was a time when the process had no descriptors left
}

// Start starts a server on all loops of a runtime that runs. It is called from a plain goroutine.
func Start(rt *runtime.Runtime, config Config) (*Server, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	s := &Server{config: config, rt: rt}
	if config.Role == Source {
		one := config.Framing.New(config.Size)
		const atATime = 64 << 10
		for len(s.message) == 0 || len(s.message)+len(one) <= atATime {
			s.message = append(s.message, one...)
		}
	}
	if err := s.reserve(); err != nil {
		return nil, err
	}
	if config.Role == WebSocket || config.Role == Broadcast {
		return s, s.serveWebSocket()
	}
	for _, loop := range rt.Loops() {
		for _, address := range s.addresses {
			err := onLoop(rt, loop, func(ctx context.Context) error {
				return s.listen(ctx, address)
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Addr returns the address that the server listens on, the first one if there are several.
func (s *Server) Addr() string { return s.addresses[0] }

// Stats returns what the server has done up to now.
func (s *Server) Stats() Stats {
	if s.webSocket != nil {
		return webSocketStats(s.webSocket.Stats())
	}
	return Stats{s.accepted.Load(), s.handshakes.Load(), s.failed.Load(), s.shortage.Load()}
}

// onLoop runs fn in a coroutine of a loop and waits for it.
func onLoop(rt *runtime.Runtime, loop runtime.Loop, fn func(ctx context.Context) error) error {
	done := make(chan error, 1)
	err := loop.Post(func() {
		if _, err := runtime.Go(rt.Context(),
			func(ctx context.Context) { done <- fn(ctx) }); err != nil {
			done <- err
		}
	})
	if err != nil {
		return err
	}
	return <-done
}

// reserve finds out whether the addresses are free, and which port it is. The listeners share
// theirs (SO_REUSEPORT), and so would a second server with them, unnoticed.
func (s *Server) reserve() error {
	address, n := s.config.Listen, 1
	if s.config.Spread {
		n = addresses
	}
	for i := range n {
		l, err := socket.Listen(s.rt.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer l.Close()
		s.addresses = append(s.addresses, l.LocalAddr().String())
		if i+1 < n {
			if address, err = Address(s.addresses[0], (i+1)*PerAddress); err != nil {
				return err
			}
		}
	}
	return nil
}

// listen makes a listener on the caller's loop and begins to accept.
func (s *Server) listen(ctx context.Context, address string) error {
	l, err := socket.New("tcp")
	if err != nil {
		return err
	}
	// accepted connections have them, too
	l.SetTimeouts(socket.Timeouts{Handshake: s.config.Timeout, Write: s.config.Timeout})
	if err := l.SetOption(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := l.Bind(ctx, address); err != nil {
		return err
	}
	if err := l.Listen(0); err != nil {
		l.Abort()
		return err
	}
	_, err = runtime.Go(s.rt.Context(), func(ctx context.Context) {
		defer l.Abort()
		s.accept(ctx, l)
	})
	return err
}

// accept accepts connections until the runtime shuts down.
func (s *Server) accept(ctx context.Context, l *socket.Socket) {
	const pause = 50 * time.Millisecond // until a descriptor may be free again
	for {
		conn, err := l.Accept(ctx)
		switch {
		case err == nil:
			s.accepted.Add(1)
			if _, err := runtime.Go(s.rt.Context(),
				func(ctx context.Context) { s.serve(ctx, conn) }); err != nil {
				conn.Abort()
			}
			continue
		case errors.Is(err, runtime.ErrShutdown), errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			s.shortage.Store(true)
		}
		if runtime.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// serve serves one connection.
func (s *Server) serve(ctx context.Context, conn *socket.Socket) {
	defer conn.Close()
	if err := s.upgrade(ctx, conn); err != nil {
		s.failed.Add(1)
		return
	}
	conn.SetTimeouts(socket.Timeouts{}) // clients may be idle, and slow, as long as they like
	switch s.config.Role {              // an error is the client's leaving
	case Echo:
		echo(ctx, conn)
	case Sink:
		sink(ctx, conn)
	case Source:
		s.pour(ctx, conn)
	case Hello:
		if _, err := conn.SendAll(ctx, []byte{'!'}); err == nil {
			sink(ctx, conn)
		}
	}
}

// upgrade brings a connection to TLS, if it is to use it.
func (s *Server) upgrade(ctx context.Context, conn *socket.Socket) error {
	if s.config.TLS == nil {
		return nil
	}
	if s.config.StartTLS != nil {
		if err := s.converse(ctx, conn); err != nil {
			return err
		}
	}
	if err := conn.SSLHandshake(ctx, s.config.TLS); err != nil {
		return err
	}
	s.handshakes.Add(1)
	return nil
}

var errHungUp = errors.New("the dialogue has ended without TLS")

// converse speaks the plaintext protocol up to the client's wish for TLS.
func (s *Server) converse(ctx context.Context, conn *socket.Socket) error {
	talk := s.config.StartTLS.Server()
	if err := conn.SetProtocol(talk); err != nil {
		return err
	}
	t := conn.Timeouts()
	t.Read = s.config.Timeout
	conn.SetTimeouts(t)
	if greeting := talk.Greeting(); greeting != nil {
		if _, err := conn.SendAll(ctx, greeting); err != nil {
			return err
		}
	}
	for {
		command, err := conn.RecvPacket(ctx)
		if err != nil {
			return err
		}
		reply, action := talk.Answer(command)
		if len(reply) > 0 {
			if _, err := conn.SendAll(ctx, reply); err != nil {
				return err
			}
		}
		switch action {
		case dialogue.Upgrade:
			return conn.SetProtocol(nil)
		case dialogue.Hangup:
			return errHungUp
		}
	}
}

func echo(ctx context.Context, conn *socket.Socket) error {
	for {
		p, err := conn.RecvPacket(ctx)
		if err != nil {
			return err
		}
		if _, err := conn.SendSoon(ctx, p); err != nil {
			return err
		}
	}
}

func sink(ctx context.Context, conn *socket.Socket) error {
	for {
		if _, err := conn.RecvPacket(ctx); err != nil {
			return err
		}
	}
}

func (s *Server) pour(ctx context.Context, conn *socket.Socket) error {
	for {
		if _, err := conn.SendAll(ctx, s.message); err != nil {
			return err
		}
	}
}
