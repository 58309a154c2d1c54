package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A Dialer makes Clients that share a configuration, with its TLS sessions: each of very many takes
// less memory. Its methods may be called from anywhere.
type Dialer struct{ dialer }

// NewDialer makes a Dialer. The error says what is wrong with the configuration.
func NewDialer(config Config) (*Dialer, error) {
	d := new(Dialer)
	if d.init(&config); d.invalid != nil {
		return nil, d.invalid
	}
	return d, nil
}

// New makes a Client that is not connected.
func (d *Dialer) New() *Client { return &Client{dialer: &d.dialer} }

// Dial makes a Client and connects it, see [Client.Connect].
func (d *Dialer) Dial(ctx context.Context, network, address string) (*Client, error) {
	c := d.New()
	if err := c.Connect(ctx, network, address); err != nil {
		return nil, err
	}
	return c, nil
}

// dialer brings connections to stand, for Client and Async. It is shared by all of a configuration.
type dialer struct {
	config  Config
	invalid error                            // what is wrong with config
	tls     atomic.Pointer[tlsconfig.Client] // nil until it is needed, if config doesn't say more
	last    atomic.Pointer[target]           // which is often the next one, too
	name    string                           // whom to verify; empty: the host that is dialled
}

func (d *dialer) init(config *Config) {
	d.config = *config
	d.invalid = d.config.check()
	if base := config.TLS; base != nil {
		name, err := dialing.ASCII(base.ServerName)
		if err != nil && d.invalid == nil {
			d.invalid = fmt.Errorf("client: Config: TLS.ServerName: %w", err)
		}
		if name != base.ServerName {
			base = base.Clone()
			base.ServerName = name
		}
		if name != tlsconfig.NoSNI {
			d.name = name
		}
		if config.CompactTLS.After > 0 {
			base = compact.Config(base)
		}
		d.tls.Store(tlsconfig.NewClient(base)) // now, as it copies
	}
}

// tlsFor returns the TLS configuration for connections to a host.
func (d *dialer) tlsFor(host string) *tls.Config {
	if d.tls.Load() == nil {
		var base *tls.Config
		if d.config.CompactTLS.After > 0 {
			base = compact.Config(nil)
		}
		d.tls.CompareAndSwap(nil, tlsconfig.NewClient(base))
	}
	return d.tls.Load().For(host)
}

// target is what Connect is asked for. It doesn't change.
type target struct {
	network   string
	transport string // the network of the socket
	secure    bool   // TLS from the start
	address   string // as it was given
	host      string // that is dialled, as it was given
	name      string // the host with A-labels, for the certificate
}

// fail is the error of connecting before there is a socket.
func (t *target) fail(err error) error {
	return &net.OpError{Op: "connect", Net: t.network, Err: fmt.Errorf("%s: %w", t.address, err)}
}

func (t *target) tcp() bool { return strings.HasPrefix(t.transport, "tcp") }

// target is newTarget, but for the connections to one server they are all the same one.
func (d *dialer) target(network, address string) (*target, error) {
	if t := d.last.Load(); t != nil && t.network == network && t.address == address {
		return t, nil
	}
	t, err := newTarget(network, address)
	if err == nil {
		d.last.Store(t)
	}
	return t, err
}

func newTarget(network, address string) (*target, error) {
	t := &target{network: network, transport: network, address: address}
	t.host, t.name = address, address
	if version, ok := strings.CutPrefix(network, "tls"); ok {
		t.transport, t.secure = "tcp"+version, true
	}
	if t.tcp() {
		host, _, err := net.SplitHostPort(address)
		if err == nil {
			t.host = host
			t.name, err = dialing.ASCII(host)
		}
		if err != nil {
			return nil, &net.OpError{Op: "connect", Net: network, Err: err}
		}
	}
	return t, nil
}

// dial makes the configuration's settings on a new socket and connects it, with all that belongs to
// it: proxy, TLS from the start, framing. With a context that is done it begins nothing.
func (d *dialer) dial(ctx context.Context, s *socket.Socket, to *target) error {
	if err := dialing.Done(ctx); err != nil {
		return to.fail(err)
	}
	if err := d.config.apply(s, to.tcp()); err != nil {
		return err
	}
	if err := d.establish(ctx, s, to); err != nil {
		return err
	}
	if to.secure {
		return d.secureFirst(ctx, s, to)
	}
	return nil
}

// establish connects, through the proxy if there is one, and sets the framing.
func (d *dialer) establish(ctx context.Context, s *socket.Socket, to *target) error {
	var err error
	if p := d.config.Proxy; p != nil {
		s.SetResolver(dialing.Resolver(d.config.Resolver, p.Address))
		deadline := sched.DeadlineAfter(s.Timeouts().Connect)
		err = p.connect(ctx, s, to.transport, to.address, deadline)
	} else {
		s.SetResolver(dialing.Resolver(d.config.Resolver, to.address))
		err = s.Connect(ctx, to.address)
	}
	if err != nil {
		return err
	}
	framer, err := d.config.framer()
	if err != nil || framer == nil {
		return err
	}
	return s.SetProtocol(framer)
}

// handshake turns a socket into TLS.
func (d *dialer) handshake(ctx context.Context, s *socket.Socket, to *target) error {
	return d.explainHandshake(s, to, s.SSLHandshake(ctx, d.tlsFor(to.name)))
}

// explainHandshake says why a handshake has failed that has ended its connection.
func (d *dialer) explainHandshake(s *socket.Socket, to *target, err error) error {
	if err == nil || s.Connected() {
		return err
	}
	return dialing.Explain(err, to.host, func(err error) error {
		return explain.Client(err, to.host, d.tlsFor(to.name))
	})
}

// secureFirst begins a connection with TLS. A server that speaks first doesn't speak TLS, and how
// soon it does so makes no difference.
func (d *dialer) secureFirst(ctx context.Context, s *socket.Socket, to *target) error {
	err := d.handshake(ctx, s, to)
	if !errors.Is(err, socket.ErrPlaintextPending) {
		return err
	}
	return explain.Plaintext(nil, to.host, err)
}

// explain adds to the error of an operation over TLS what lies behind it: with TLS 1.3, a server
// that refuses the client's certificate says so only after the handshake. So does one that can't
// decrypt what comes, or sends what can't be decrypted.
func (d *dialer) explain(to *target, err error) error {
	for op, ok := errors.AsType[*net.OpError](err); ok; op, ok = errors.AsType[*net.OpError](op.Err) {
		// An alert: the server's, or one for it.
		if op.Op == "remote error" || op.Op == "local error" {
			return explain.Client(err, to.host, d.tlsFor(to.name))
		}
	}
	return err
}
