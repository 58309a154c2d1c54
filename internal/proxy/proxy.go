// Package proxy negotiates a tunnel through a proxy, on the client's side: SOCKS5 (RFC 1928, with
// the user name and password of RFC 1929; the CONNECT command only) and HTTP CONNECT (RFC 9110
// section 9.3.6, with the Basic credentials of RFC 7617).
//
// # Theory of operation
//
// A [Handshake] never touches a socket or the clock: bytes from the proxy go in, bytes for the
// proxy come out. Whoever owns the connection reads, writes, keeps the deadline and decides what an
// end of stream halfway means. Its loop is
//
//	call Next with what is buffered; drop what was consumed; send out; stop at done or err; read more
//
// The difficult moment is the end. A server that speaks first (SMTP, SSH, MySQL) may have its
// greeting in the segment that carries the proxy's last bytes, so both protocols are parsed message
// by message and nothing behind the last one is counted as consumed. What the owner still has
// buffered when done is reported is the beginning of the tunnel.
//
// Everything a proxy sends is untrusted: what it can make us hold is bounded, its text reaches an
// error only after cleaning, and whatever does not follow the grammar to the letter ends the
// handshake. A peer read leniently here could disagree with us about where the answer ends, and
// that is where the tunnel begins.
//
// Inside, a handshake is an [exchange]: a chain of steps, each of which reads one message (SOCKS5)
// or one line (HTTP) and names the step that comes after it. A step uses either the whole of its
// message or nothing, and judges bytes in their order. That makes the result independent of how the
// network cut the stream.
package proxy

import (
	"errors"
	"fmt"
)

// A Handshake is one negotiation of one tunnel. It is not for concurrent use and cannot be used
// again.
type Handshake interface {
	// Next takes the bytes that were received and not consumed yet (none on the first call) and
	// goes as far as they allow. Bytes that were not consumed are passed again, with what was
	// received after them. Next keeps no reference to in; out belongs to the caller.
	//
	//   - consumed: how many bytes of in were used, also if err is set.
	//   - out: bytes to send now, before anything else is done; may be nil. Nil if err is set.
	//   - done: the tunnel stands, and the bytes behind consumed belong to it.
	//   - err: the negotiation failed, as an [*Error]. Nothing more is to be sent.
	//
	// With neither done nor err, more has to be received before the next call. After done or err,
	// further calls consume nothing and repeat the verdict.
	Next(in []byte) (consumed int, out []byte, done bool, err error)
}

// What a failed handshake comes down to. Each is found in an [*Error] by errors.Is.
var (
	// ErrProtocol: the answer breaks the protocol. Most likely the peer is not a proxy of this
	// kind.
	ErrProtocol = errors.New("malformed answer from the proxy")

	// ErrAuth: the proxy wants credentials, or other ones, or proves them in a way that we don't
	// offer.
	ErrAuth = errors.New("proxy authentication failed")

	// ErrRefused: the proxy understood and did not open the tunnel. Where SOCKS5 says why, the
	// errno that a direct connect would have brought is found as well, for instance
	// syscall.ECONNREFUSED.
	ErrRefused = errors.New("proxy refused the tunnel")
)

// Error says how a handshake failed. It never holds a password, not even one that the proxy sent
// back.
type Error struct {
	// Proxy is the protocol: "SOCKS5" or "HTTP CONNECT".
	Proxy string

	// Answer is what the proxy answered. HTTP: the status. SOCKS5: the reply with [ErrRefused];
	// with [ErrAuth] the status of RFC 1929, or 255 where the proxy accepts none of the methods
	// that we offer. 0 with [ErrProtocol].
	Answer int

	// Err wraps ErrProtocol, ErrAuth or ErrRefused.
	Err error
}

// Error says which proxy it was, why, and its answer if that was one.
func (e *Error) Error() string {
	if e.Answer == 0 {
		return e.Proxy + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %v (code %d)", e.Proxy, e.Err, e.Answer)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns Swoole's number for the error, SW_ERROR_SOCKS5_… or SW_ERROR_HTTP_PROXY_…
func (e *Error) Code() int {
	if e.Proxy == nameConnect {
		if errors.Is(e.Err, ErrProtocol) {
			return 7104 // BAD_RESPONSE
		}
		return 7101 // HANDSHAKE_ERROR
	}
	switch {
	case errors.Is(e.Err, errVersion):
		return 7001 // UNSUPPORT_VERSION
	case errors.Is(e.Err, ErrProtocol):
		return 7005 // HANDSHAKE_FAILED
	case errors.Is(e.Err, errMethod):
		return 7002 // UNSUPPORT_METHOD
	case errors.Is(e.Err, ErrAuth):
		return 7003 // AUTH_FAILED
	}
	return 7004 // SERVER_ERROR
}

// malformed is the error for an answer that breaks the protocol. The text is ours, never the
// peer's.
func malformed(proxy, text string) error {
	return &Error{Proxy: proxy, Err: fmt.Errorf("%w: %s", ErrProtocol, text)}
}

// A step reads one message from the front of in, chooses the step that follows, and returns what
// has to be sent in answer. used is 0 while the message is incomplete, and always with an error.
type step func(in []byte) (used int, out []byte, err error)

// exchange is what both protocols share: it implements Handshake by running steps.
type exchange struct {
	opening []byte // what the client says first; nil once handed out
	step    step   // the message expected next; nil when the tunnel stands
	err     error  // the final verdict, if it is bad
}

func (x *exchange) Next(in []byte) (consumed int, out []byte, done bool, err error) {
	out, x.opening = x.opening, nil
	for x.step != nil && x.err == nil {
		var used int
		var send []byte
		used, send, x.err = x.step(in[consumed:])
		if used == 0 {
			break
		}
		consumed += used
		out = append(out, send...)
	}
	if x.err != nil {
		return consumed, nil, false, x.err
	}
	return consumed, out, x.step == nil, nil
}
