package stream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"syscall"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// CryptoMethod says which side of TLS a stream is to be, and which versions it may speak: PHP's
// STREAM_CRYPTO_METHOD_* constants, which may be combined with |. The methods of any version leave
// the versions to the context, and that is TLS 1.2 and 1.3 unless it says otherwise; to ask for
// older ones, name them. 0 also leaves the side open: the client's for a stream that has connected,
// the server's for one that was accepted.
type CryptoMethod int

const (
	CryptoTLSv10Server CryptoMethod = 1 << 3
	CryptoTLSv11Server CryptoMethod = 1 << 4
	CryptoTLSv12Server CryptoMethod = 1 << 5
	CryptoTLSv13Server CryptoMethod = 1 << 6
	CryptoTLSServer    CryptoMethod = 120 // any version
	CryptoAnyServer    CryptoMethod = 126 // any version

	CryptoTLSv10Client = CryptoTLSv10Server | cryptoClient
	CryptoTLSv11Client = CryptoTLSv11Server | cryptoClient
	CryptoTLSv12Client = CryptoTLSv12Server | cryptoClient
	CryptoTLSv13Client = CryptoTLSv13Server | cryptoClient
	CryptoTLSClient    = CryptoTLSServer | cryptoClient
	CryptoAnyClient    = CryptoAnyServer | cryptoClient

	cryptoClient CryptoMethod = 1
	// What "any version" was before TLS 1.3: it names no version either.
	cryptoSSLv23 CryptoMethod = 56
)

// normal returns the method with the side filled in, and without any versions if it stands for any.
func (m CryptoMethod) normal(server bool) CryptoMethod {
	if m == 0 && !server {
		return cryptoClient
	}
	if versions := m &^ cryptoClient; versions == cryptoSSLv23 || versions == CryptoTLSServer ||
		versions == CryptoAnyServer {
		m &= cryptoClient
	}
	return m
}

// method returns the method that a URL stands for.
func (u *streamURL) method(server bool) CryptoMethod {
	if !server {
		return u.versions | cryptoClient
	}
	return u.versions
}

// ErrCryptoEnded is returned by what would write to a stream whose TLS was switched off: it can't
// go on in the clear by mistake.
var ErrCryptoEnded = errors.New("TLS was ended on this stream; nothing can be written any more")

// EnableCrypto switches TLS on, or off. It returns true when that is done and, on a stream that
// isn't blocking, false without an error when it isn't yet: call it again, as
// stream_socket_enable_crypto is called again when it has returned 0. Meanwhile the handshake goes
// on by itself; Select reports the stream as readable and writable as soon as there is something
// new to say.
//
// The context has the options; a client expects a certificate for the host of its URL, unless they
// have a peer_name. Its versions hold, if the method names none.
//
// It refuses to start behind plaintext that has arrived and was not read
// (socket.ErrPlaintextPending): whoever sent it could pass it off as said over TLS. Whatever goes
// wrong closes the connection, so that nothing goes out in the clear by mistake; only
// socket.ErrBusy and socket.ErrSSLActive leave it as it is. A failed handshake is a
// *explain.HandshakeError that says what to do about it.
//
// Off means that close_notify is sent and the sending side closed. There is no way back to
// plaintext: what an attacker cuts off and what goes on in the clear couldn't be told apart. The
// peer's last bytes can still be read; writing returns ErrCryptoEnded. Without TLS it does nothing.
func (s *Stream) EnableCrypto(
	ctx context.Context,
	on bool,
	method CryptoMethod,
) (done bool, err error) {
	const op = "enable crypto"
	if o := s.crypto.Load(); o != nil && on {
		err = s.cryptoOutcome(ctx, o)
	} else if err = s.settle(ctx); err == nil {
		if on {
			err = s.startCrypto(ctx, method.normal(s.accepted))
		} else {
			err = s.endCrypto(ctx)
		}
	}
	if err == ErrWouldBlock {
		return false, nil
	}
	return err == nil, s.outcome(op, ctx, err)
}

// cryptoOutcome tells how a handshake has ended that was begun without blocking.
func (s *Stream) cryptoOutcome(ctx context.Context, o *streamOpening) error {
	if !o.ended.Load() {
		if s.nonblocking.Load() {
			return ErrWouldBlock
		}
		if err := o.wait(ctx, 0); err != nil { // the handshake has a time-out of its own
			return err
		}
	}
	s.crypto.CompareAndSwap(o, nil)
	return o.err
}

// startCrypto makes the handshake, or begins it if the stream isn't blocking.
func (s *Stream) startCrypto(ctx context.Context, method CryptoMethod) error {
	if s.url.datagrams() || s.socket.Listening() {
		return fmt.Errorf("TLS needs a connection: %w", syscall.EOPNOTSUPP)
	}
	if err := s.both(); err != nil {
		return err
	}
	// A handshake in the background keeps others out by being what opens the stream.
	defer s.leaveBoth()
	if s.secure.Load() {
		return socket.ErrSSLActive
	}
	shake := func(ctx context.Context) error { return s.shakeHands(ctx, method) }
	if !s.nonblocking.Load() {
		err := shake(ctx)
		if err != nil {
			s.giveUp(err)
		}
		return err
	}
	o, err := s.openLater(ctx, shake)
	if err != nil || o.ended.Load() {
		return cmp.Or(err, o.err)
	}
	s.crypto.Store(o)
	return ErrWouldBlock
}

// shakeHands makes the handshake that a method asks for. Who calls it has the stream to itself.
func (s *Stream) shakeHands(ctx context.Context, method CryptoMethod) error {
	c, server := s.context.Load(), method&cryptoClient == 0
	var config *tls.Config
	if server {
		made, err := c.server(ctx, method)
		if err != nil {
			return err
		}
		config = made
	} else {
		made, err := c.client(ctx, method)
		if err != nil {
			return err
		}
		config = made.For(s.url.ascii)
	}
	if server != s.accepted {
		if err := s.socket.SetServerRole(server); err != nil {
			return err
		}
	}
	err := s.socket.SSLHandshake(ctx, config)
	if err == nil {
		s.secure.Store(true)
	}
	return dialing.Explain(err, s.GetName(true), func(err error) error {
		if server {
			return explain.Server(err, s.GetName(true), config)
		}
		return explain.Client(err, s.url.host, config)
	})
}

// endCrypto says close_notify and closes the sending side.
func (s *Stream) endCrypto(ctx context.Context) error {
	if !s.secure.Load() {
		return nil
	}
	if !s.wr.busy.CompareAndSwap(false, true) {
		return socket.ErrBusy
	}
	defer s.wr.leave()
	s.cryptoEnded.Store(true)
	waited, err := s.patience(ctx)
	if err == nil {
		err = s.socket.Shutdown(waited, socket.ShutdownWrite)
	}
	return s.outcome("enable crypto", waited, err)
}
