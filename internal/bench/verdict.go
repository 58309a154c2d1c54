package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/whorl-go/whorl/internal/clock"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// What a server says after a handshake is read here: its session tickets, and under TLS 1.3 whether
// it takes the client's certificate (RFC 8446, section 4.4.2.4: the client has ended its handshake
// by then). crypto/tls looks at such messages only when somebody reads.

// certificate is the GetClientCertificate of all handshakes: it does what crypto/tls does without
// one, and notes that the server has asked.
func (d *dialer) certificate(
	config *tls.Config,
) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		d.asked.Store(true)
		if config.GetClientCertificate != nil {
			return config.GetClientCertificate(request)
		}
		for i := range config.Certificates {
			if request.SupportsCertificate(&config.Certificates[i]) == nil {
				return &config.Certificates[i], nil
			}
		}
		return new(tls.Certificate), nil
	}
}

// How long a server may take for its verdict: one round trip and the check of a chain, so about as
// long as the handshake. A server without tickets that waits for the client to speak never says it.
const (
	leastVerdictPatience = 250 * time.Millisecond
	verdictPatience      = 4 // times what the handshake took
)

// verdict waits, in a full handshake of TLS 1.3 in which the server has asked for a certificate,
// for a sign that it takes the client's: a ticket, or a byte. An alert is its refusal. Where
// nothing comes the handshake counts, to its own end, and is counted as one that isn't known.
func (d *dialer) verdict(
	ctx context.Context, l *lane, s *socket.Socket, t *trial, took time.Duration,
) error {
	began, tickets := clock.Now(), l.sessions.tickets
	patience := min(max(leastVerdictPatience, verdictPatience*took), d.options.Timeout)
	err := hear(ctx, s, patience, func(n int) bool {
		return n > 0 || l.sessions.tickets != tickets
	})
	switch {
	case err == nil:
		t.note(phaseVerdict, clock.Now()-began)
	case errors.Is(err, errSilence):
		t.ended = began
		if t.measured {
			l.silent++
		}
	case errors.Is(err, runtime.ErrShutdown):
		return failedIn(phaseTLS, err)
	default:
		return failedIn(phaseTLS, explain.Client(err, d.host, d.own))
	}
	return nil
}

// ticketPatience is how long a server may take to send a session ticket after its handshake.
const ticketPatience = 2 * time.Second

// awaitTicket waits until the server has given the lane a session to resume. What else it says is
// thrown away.
func awaitTicket(ctx context.Context, l *lane, s *socket.Socket) error {
	err := hear(ctx, s, ticketPatience, func(int) bool { return l.sessions.session != nil })
	switch {
	case err == nil, errors.Is(err, runtime.ErrShutdown):
		return err
	case errors.Is(err, errSilence):
		return failedIn(phaseTLS, errNoTicket)
	}
	return failedIn(phaseTLS, fmt.Errorf("%w: %w", errNoTicket, err))
}

// errSilence says that nothing has come in time.
var errSilence = errors.New("the server says nothing")

// hear has crypto/tls read what comes until it is enough, which is asked with the number of bytes
// for the client that are there. What came before the end of the stream counts, too.
func hear(
	ctx context.Context, s *socket.Socket, patience time.Duration, enough func(n int) bool,
) error {
	timeouts := s.Timeouts()
	defer s.SetTimeouts(timeouts)
	deadline := clock.Now() + patience
	var some [512]byte
	for {
		n, err := s.Peek(some[:])
		switch {
		case enough(n):
			return nil
		case n > 0:
			if err := socket.House(s, house.Key{}).Discard(n); err != nil {
				return err
			}
			continue
		case !errors.Is(err, socket.ErrWouldBlock):
			return err
		}
		left := deadline - clock.Now()
		if left <= 0 {
			return errSilence
		}
		bounded := timeouts
		bounded.Read = left
		s.SetTimeouts(bounded)
		if err := arrival(ctx, s); errors.Is(err, runtime.ErrTimeout) {
			return errSilence
		} else if err != nil {
			return err
		}
	}
}

// arrival waits until something more has come.
func arrival(ctx context.Context, s *socket.Socket) error {
	waited := false
	return socket.House(s, house.Key{}).RawRead(ctx, func(uintptr) bool {
		before := waited
		waited = true
		return before
	})
}
