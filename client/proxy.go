package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/proxy"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// connect connects a socket to the proxy and has it open a tunnel to address, all before the
// deadline.
func (p *Proxy) connect(
	ctx context.Context,
	s *socket.Socket,
	network, address string,
	deadline sched.Deadline,
) error {
	fail := func(err error) error {
		return &net.OpError{Op: "connect", Net: network, Addr: proxied{address, p}, Err: err}
	}
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return fail(fmt.Errorf("a proxy can't carry network %s", network))
	}
	start := proxy.NewSOCKS5
	if p.Type == "http" {
		start = proxy.NewConnect
	}
	target, err := dialing.ASCIIAddress(address)
	if err != nil {
		return fail(err)
	}
	handshake, err := start(target, p.User, p.Password)
	if err != nil {
		return fail(err)
	}
	if err := s.Connect(ctx, p.Address); err != nil {
		return fail(err)
	}
	if deadline != 0 {
		timeouts := s.Timeouts()
		defer s.SetTimeouts(timeouts)
		timeouts.Read = max(deadline.Until(), time.Nanosecond)
		timeouts.Write = timeouts.Read
		s.SetTimeouts(timeouts)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, deadline.Until(), runtime.ErrTimeout)
		defer cancel()
	}
	if err := negotiate(ctx, s, handshake); err != nil {
		if context.Cause(ctx) == error(runtime.ErrTimeout) {
			err = runtime.ErrTimeout
		}
		return fail(err)
	}
	return nil
}

// proxied is an address behind a proxy.
type proxied struct {
	address string
	proxy   *Proxy
}

func (a proxied) Network() string { return a.proxy.Type }
func (a proxied) String() string {
	return a.address + " through " + a.proxy.Type + " proxy " + a.proxy.Address
}

// negotiate runs the proxy's handshake. What follows it in the stream stays unread: it belongs to
// the tunnel.
func negotiate(ctx context.Context, s *socket.Socket, h proxy.Handshake) error {
	steps := &steps{handshake: h}
	if err := s.SetProtocol(steps); err != nil {
		return err
	}
	_, out, done, err := h.Next(nil)
	for {
		if err != nil {
			return err
		}
		if len(out) > 0 {
			if _, err := s.SendAll(ctx, out); err != nil {
				return err
			}
		}
		if done {
			return s.SetProtocol(nil)
		}
		if _, err := s.RecvPacket(ctx); err == io.EOF || err != nil && steps.err == nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		out, done, err = steps.out, steps.done, steps.err
	}
}

// steps makes each step of a handshake a packet.
type steps struct {
	handshake proxy.Handshake
	out       []byte
	done      bool
	err       error
}

func (s *steps) Next(data []byte, _ bool) (int, []byte, error) {
	var consumed int
	consumed, s.out, s.done, s.err = s.handshake.Next(data)
	if s.err != nil {
		return 0, nil, s.err
	}
	if consumed == 0 && len(s.out) == 0 && !s.done {
		return 0, nil, nil
	}
	return consumed, data[:consumed:consumed], nil
}

func (s *steps) Want() int { return 0 }
func (s *steps) Reset()    {}
