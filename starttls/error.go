package starttls

import (
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A Phase is a part of an upgrade.
type Phase string

// The phases, in order. Not each protocol has all of them.
const (
	PhaseGreeting     = Phase(dialogue.Greeting)     // what the server says first
	PhaseCapabilities = Phase(dialogue.Capabilities) // what it says it can do
	PhaseStartTLS     = Phase(dialogue.StartTLS)     // the wish for TLS and the answer
	PhaseHandshake    = Phase("handshake")           // of TLS
	PhaseSession      = Phase(dialogue.Secure)       // what is asked again over TLS
)

// What can go wrong, for errors.Is. It comes in an [Error]. Other causes are those of package
// client: an *explain.HandshakeError, io.EOF, and for a time-out os.ErrDeadlineExceeded.
var (
	// ErrNotOffered means that the server doesn't offer TLS, or somebody on the wire has taken the
	// offer out.
	ErrNotOffered = dialogue.ErrNotOffered

	// ErrRefused means a clear no, to the client or to TLS.
	ErrRefused = dialogue.ErrRefused

	// ErrProtocol means that what the server says doesn't belong there: it is no answer of the
	// protocol, or none to what was asked, or has no end.
	ErrProtocol = dialogue.ErrProtocol

	// ErrPreauth means that an IMAP server has logged the client in by itself (PREAUTH), after
	// which there is no STARTTLS. Going on would be going on in plaintext.
	ErrPreauth = dialogue.ErrPreauth

	// ErrPlaintextAfterUpgrade means that plaintext was there behind the server's agreement. TLS
	// was not begun. It comes with socket.ErrPlaintextPending.
	ErrPlaintextAfterUpgrade = dialogue.ErrInjected

	// ErrPlaintextDuringHandshake means that plaintext came in place of the server's part of the
	// handshake.
	ErrPlaintextDuringHandshake = errors.New("plaintext was sent in place of the TLS handshake")
)

// An Error says in which phase an upgrade has failed, and why.
type Error struct {
	Protocol Protocol
	Phase    Phase

	// Code is the code of the reply that was not the right one: 454, say. 0 if there is none. It is
	// as untrusted as Said.
	Code int

	// Said is what the server has said, in quotes, with escapes for whatever isn't printable ASCII,
	// and shortened; empty if it doesn't matter. In all phases but PhaseSession anybody on the wire
	// could have said it: don't show it as the server's words. PostgreSQL's is never here.
	Said string

	Err error // the cause
}

func (e *Error) Error() string {
	return fmt.Sprintf("starttls: %s: %s: %v", e.Protocol, e.Phase, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// failed makes an Error of what has ended a phase.
func failed(p Protocol, in dialogue.Phase, err error) error {
	e := &Error{Protocol: p, Phase: Phase(in), Err: err}
	if verdict, ok := errors.AsType[*dialogue.Error](err); ok {
		e.Phase, e.Code, e.Said, e.Err = Phase(verdict.Phase), verdict.Code, verdict.Text, verdict
	}
	if errors.Is(err, ErrPlaintextAfterUpgrade) {
		e.Phase, e.Err = PhaseHandshake, both{e.Err, socket.ErrPlaintextPending}
	}
	return e
}

// handshakeFailed is failed for the handshake.
func handshakeFailed(p Protocol, err error) error {
	e := &Error{Protocol: p, Phase: PhaseHandshake, Err: err}
	handshake, ok := errors.AsType[*explain.HandshakeError](err)
	switch {
	case errors.Is(err, socket.ErrPlaintextPending):
		e.Err = both{ErrPlaintextAfterUpgrade, err}
	case ok && handshake.Reason == explain.ReasonPlaintext:
		e.Err = fmt.Errorf("%w: %w", ErrPlaintextDuringHandshake, err)
	}
	return e
}

// both is an error that is another one as well, whose text would say the same once more.
type both struct {
	error
	also error
}

func (b both) Unwrap() []error { return []error{b.error, b.also} }
