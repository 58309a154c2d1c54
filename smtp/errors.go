package smtp

import (
	"errors"

	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/smtp/internal/engine"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// An Error is a server's refusal: its Code of three digits, from 400 on; the Enhanced code, if it
// gave one; its words, Text, whose lines are separated by LF; the Command that was refused ("MAIL",
// "RCPT", "AUTH PLAIN", "end of message", …); the Recipient, if it was one; and Lost, if the server
// closes the connection (code 421). Temporary tells whether the same may succeed later: codes below
// 500.
type Error = engine.Error

// Enhanced is an enhanced status code, RFC 3463, of a Class, a Subject and a Detail: 5.1.1. Known
// tells whether there is one.
type Enhanced = reply.Enhanced

// A RecipientsError says that all recipients of a mail were refused; its Refused are the Errors, to
// which it unwraps. Temporary tells whether one of them may succeed later.
type RecipientsError = engine.RecipientsError

// An ExtensionError says that a mail needs an extension that the server doesn't offer: the Keyword
// of EHLO, and what it is needed For. Nothing of the mail was sent, unless it is a message of more
// than 64 KiB in which the first 8-bit character comes late; the server drops that.
type ExtensionError = engine.ExtensionError

// A SizeError says that the Size of a message is beyond the Limit that the server has set, in bytes
// (RFC 1870). Nothing of the mail was sent. Where the size isn't known before, it is for the server
// to say so.
type SizeError = engine.SizeError

// Temporary reports whether what [Client.Send] or [Pool.Send] has failed with may pass, so that the
// same mail can be sent later: a refusal by a code below 500, of one recipient at least; a lost
// connection, a time-out, a context that is done, a Pool that is full or was closed. It is false
// for what lasts, errors of Message among it; for nil; and for [ErrInDoubt]: sent again, such a
// mail may come twice.
func Temporary(err error) bool {
	if all, ok := errors.AsType[*RecipientsError](err); ok {
		return all.Temporary()
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Temporary() && !errors.Is(err, ErrInDoubt)
	}
	for _, lasting := range []error{
		ErrInvalid, ErrNoTLS, ErrAuthNeedsTLS, ErrNoMechanism, ErrNotProven, ErrProtocol, ErrInDoubt,
		ErrMessageGone,
	} {
		if errors.Is(err, lasting) {
			return false
		}
	}
	_, extension := errors.AsType[*ExtensionError](err)
	_, size := errors.AsType[*SizeError](err)
	_, made := errors.AsType[*messageError](err)
	return err != nil && !extension && !size && !made && handshakeMayPass(err)
}

// handshakeMayPass reports whether err is of no handshake, or of one that came to no end.
func handshakeMayPass(err error) bool {
	handshake, ok := errors.AsType[*explain.HandshakeError](err)
	if !ok {
		return true
	}
	switch handshake.Reason {
	case explain.ReasonTimeout, explain.ReasonReset, explain.ReasonClosed, explain.ReasonCanceled:
		return true
	}
	return false
}

// messageError is an error of a mail's Message.
type messageError struct{ error }

func (e *messageError) Error() string { return "message: " + e.error.Error() }
func (e *messageError) Unwrap() error { return e.error }

// named is an error with the server's name.
type named struct {
	address string
	error
}

func (e *named) Error() string { return "smtp: " + e.address + ": " + e.error.Error() }
func (e *named) Unwrap() error { return e.error }

// name names the server in an error, once.
func name(address string, err error) error {
	if _, ok := errors.AsType[*named](err); ok || err == nil {
		return err
	}
	return &named{address, err}
}

// Errors for errors.Is.
var (
	// ErrInvalid says that an address, a parameter or a header could be taken for more than one.
	// Nothing of the mail was sent.
	ErrInvalid = engine.ErrInvalid

	// ErrNoTLS says that a server doesn't offer STARTTLS, and TLS is [Mandatory].
	ErrNoTLS = engine.ErrNoTLS

	// ErrAuthNeedsTLS says that there are credentials, and no TLS to send them over.
	ErrAuthNeedsTLS = engine.ErrAuthNeedsTLS

	// ErrNoMechanism says that a server offers none of the mechanisms of Config.Auth.
	ErrNoMechanism = errors.New("the server offers no mechanism that there is for a login")

	// ErrNotProven says that a server has let us in without the proof of itself that the mechanism
	// (SCRAM) demands. The session is ended.
	ErrNotProven = engine.ErrNotProven

	// ErrProtocol says that a server doesn't speak SMTP, or has lost its thread.
	ErrProtocol = engine.ErrProtocol

	// ErrInDoubt says that a mail was sent with its end and that no answer came, or with LMTP not
	// one for each recipient: the server may have accepted it, for some or for all.
	ErrInDoubt = errors.New("the server may have accepted the mail")

	// ErrMessageGone says that a mail can't be sent once more, as its message can be read only
	// once.
	ErrMessageGone = errors.New("the message can be read only once")

	// ErrPoolFull is returned by a Pool for which too many mails wait.
	ErrPoolFull = errors.New("too many mails wait")

	// ErrPoolClosed is returned by a Pool that was closed.
	ErrPoolClosed = errors.New("the pool is closed")
)
