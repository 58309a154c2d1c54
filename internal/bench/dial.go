package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// dialer opens connections as the options say. It is used on all loops.
type dialer struct {
	options *Options
	host    string
	port    uint16
	address netip.AddrPort // of the target
	text    string         // the same
	sources sources

	own     *tls.Config           // the user's for the host: what explanations go by
	full    *tls.Config           // for handshakes that don't resume; nil: plaintext
	resumed map[*lane]*tls.Config // for those that do; each loop has its sessions
	judged  map[*lane]*tls.Config // full where the server asks for a certificate, see verdict
	asked   atomic.Bool           // the server has asked for a client certificate
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	params  *dialogue.Params // for StartTLS
}

func newDialer(o *Options, lanes []*lane) (*dialer, error) {
	host, port, err := net.SplitHostPort(o.Target)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	d := &dialer{options: o, host: host, port: uint16(number),
		lookup: net.DefaultResolver.LookupNetIP, params: o.Params()}
	if o.TLS == nil {
		return d, nil
	}
	// Package tlsconfig knows how to verify a host under each policy; caches are set here.
	base := o.TLS.Clone()
	base.ClientSessionCache = nil
	d.own = tlsconfig.NewClient(base).For(host).Clone()
	d.own.ClientSessionCache = nil
	d.full = d.own.Clone()
	d.full.GetClientCertificate = d.certificate(o.TLS)
	d.resumed = make(map[*lane]*tls.Config, len(lanes))
	d.judged = make(map[*lane]*tls.Config, len(lanes))
	for _, l := range lanes {
		d.resumed[l] = d.full.Clone()
		d.resumed[l].ClientSessionCache = l.sessions
		d.judged[l] = d.full.Clone()
		d.judged[l].ClientSessionCache = ticketBell{l.sessions}
	}
	return d, nil
}

// config returns the configuration for a handshake.
func (d *dialer) config(l *lane, resume bool) *tls.Config {
	switch {
	case resume:
		return d.resumed[l]
	case d.asked.Load():
		return d.judged[l]
	}
	return d.full
}

// resolve returns the addresses of the target.
func (d *dialer) resolve(ctx context.Context, t *trial) ([]netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(d.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), d.port)}, nil
	}
	began := clock.Now()
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	ips, err := runtime.Await(ctx, func() ([]netip.Addr, error) {
		return d.lookup(ctx, "ip", d.host)
	})
	if err == nil && len(ips) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: d.host, IsNotFound: true}
	}
	if err != nil {
		return nil, failedIn(phaseDNS, err)
	}
	t.note(phaseDNS, clock.Now()-began)
	addresses := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addresses[i] = netip.AddrPortFrom(ip.Unmap(), d.port)
	}
	return addresses, nil
}

// use makes an address the one that connections are made to.
func (d *dialer) use(address netip.AddrPort) { d.address, d.text = address, address.String() }

// open makes the i-th connection and notes in t what each part took. With an error there is no
// connection.
func (d *dialer) open(ctx context.Context, l *lane, t *trial, i int64,
	resume bool) (s *socket.Socket, err error) {
	to := d.text
	if d.options.ResolveEach {
		addresses, err := d.resolve(ctx, t)
		if err != nil {
			return nil, err
		}
		to = addresses[0].String()
		for _, a := range addresses { // stay with the family that was found to work
			if a.Addr().Is4() == d.address.Addr().Is4() {
				to = a.String()
				break
			}
		}
	}
	if s, err = socket.New("tcp"); err != nil {
		return nil, failedIn(phaseConnect, err)
	}
	defer func() {
		if err != nil {
			s.Abort()
			s = nil
		}
	}()
	timeout := d.options.Timeout
	s.SetTimeouts(socket.Timeouts{Connect: timeout, Read: timeout, Write: timeout,
		Handshake: timeout})
	s.SetLinger(time.Second)
	if source := d.sources.at(i); source != "" {
		if err := s.BindOnConnect(source); err != nil {
			return s, failedIn(phaseConnect, err)
		}
	}
	began := clock.Now()
	if err := s.Connect(ctx, to); err != nil {
		return s, failedIn(phaseConnect, err)
	}
	t.note(phaseConnect, clock.Now()-began)
	if d.full == nil {
		if d.options.webSocket() {
			return s, d.upgrade(ctx, s, t)
		}
		return s, nil
	}
	if d.options.StartTLS != nil {
		if err := d.converse(ctx, s, t); err != nil {
			return s, err
		}
	}
	if err := d.secure(ctx, l, s, t, resume); err != nil || !d.options.webSocket() {
		return s, err
	}
	return s, d.upgrade(ctx, s, t)
}

// converse talks the server into TLS.
func (d *dialer) converse(ctx context.Context, s *socket.Socket, t *trial) error {
	talk := d.options.StartTLS.Client(d.params)
	if err := s.SetProtocol(talk); err != nil {
		return failedIn(phaseStartTLS, err)
	}
	defer s.SetProtocol(nil)
	now, began := phaseStartTLS, clock.Now()
	if d.options.StartTLS.HasBanner() {
		now = phaseBanner
	}
	for !talk.Done() {
		if command := talk.Command(); command != nil {
			if _, err := s.SendAll(ctx, command); err != nil {
				return failedIn(now, err)
			}
			if talk.Done() {
				break // nothing answers it
			}
		}
		if _, err := s.RecvPacket(ctx); err != nil {
			if errors.Is(err, dialogue.ErrInjected) {
				now = phaseTLS // where it is found when it comes a moment later
			}
			return failedIn(now, err)
		}
		if now == phaseBanner {
			moment := clock.Now()
			t.note(now, moment-began)
			now, began = phaseStartTLS, moment
		}
	}
	t.note(now, clock.Now()-began)
	return nil
}

// secure makes the handshake.
func (d *dialer) secure(ctx context.Context, l *lane, s *socket.Socket, t *trial,
	resume bool) error {
	began, config := clock.Now(), d.config(l, resume)
	if err := s.SSLHandshake(ctx, config); err != nil {
		if !errors.Is(err, socket.ErrPlaintextPending) && !errors.Is(err, runtime.ErrShutdown) {
			err = explain.Client(err, d.host, d.own)
		}
		return failedIn(phaseTLS, err)
	}
	took := clock.Now() - began
	t.note(phaseTLS, took)
	state, _ := s.ConnectionState()
	t.agreed = agreementOf(state)
	if !d.asked.Load() || state.Version < tls.VersionTLS13 || state.DidResume ||
		d.options.FirstByte {
		return nil
	}
	return d.verdict(ctx, l, s, t, took)
}

// refusal explains an error that came after the handshake: under TLS 1.3 a server says only then
// that it refuses the client's certificate.
func (d *dialer) refusal(err error) error {
	if !d.asked.Load() || timedOut(err) || errors.Is(err, runtime.ErrShutdown) {
		return err
	}
	return explain.Client(err, d.host, d.own)
}
