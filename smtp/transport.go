package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/smtp/internal/engine"
	"github.com/whorl-go/whorl/socket"
)

// A transport is what a session goes over: a connection, or a [Rehearse] without one. Its methods
// are those of client.Client, whose Recv returns a line.
type transport interface {
	Send(ctx context.Context, p []byte) (int, error)
	Recv(ctx context.Context) ([]byte, error)
	Peek(p []byte) (int, error)
	EnableSSL(ctx context.Context) error
	ConnectionState() (tls.ConnectionState, bool)
	LocalAddr() net.Addr
	Close() error
	Abort() error

	// arrived reports whether there is something that was received and not asked for.
	arrived() bool
	// rest gives back what is only needed while something is received.
	rest()
	// patience sets how long the next line may take.
	patience(limit time.Duration)
}

// connection is the transport of a real session.
type connection struct{ *client.Client }

func (c connection) arrived() bool {
	s := c.Socket()
	return s != nil && s.Buffered() > 0
}

func (c connection) rest() {
	if s := c.Socket(); s != nil {
		socket.House(s, house.Key{}).Rest()
	}
}

func (c connection) patience(limit time.Duration) {
	s := c.Socket()
	if s == nil {
		return // closed meanwhile: Recv says so
	}
	if t := s.Timeouts(); t.Read != limit {
		t.Read = limit
		s.SetTimeouts(t)
	}
}

// A tracer is told of a session's dialogue, see Config.Trace; nil: nobody is.
type tracer func(line string)

// sent tells of commands.
func (t tracer) sent(step engine.Step, commands []byte) {
	if t == nil {
		return
	}
	for line := range bytes.Lines(commands) {
		if step == engine.Auth {
			line = withoutCredentials(line)
		}
		t("C: " + printable(line))
	}
}

// withoutCredentials is a line of a login that the client sends: AUTH with the mechanism, or a
// response to a challenge, which may be "*".
func withoutCredentials(line []byte) []byte {
	if words := bytes.Fields(line); bytes.HasPrefix(line, []byte("AUTH ")) {
		if len(words) > 2 {
			words[2] = []byte("***")
		}
		return bytes.Join(words, []byte{' '})
	}
	if string(bytes.TrimRight(line, "\r\n")) == "*" {
		return line
	}
	return []byte("***")
}

// received tells of a line of the server. Challenges are left out: they may be good for guessing
// the password.
func (t tracer) received(step engine.Step, line []byte) {
	if t == nil {
		return
	}
	if step == engine.Auth && bytes.HasPrefix(line, []byte("334")) {
		line = []byte("334 ***")
	}
	t("S: " + printable(line))
}

func printable(line []byte) string {
	return reply.Printable(string(bytes.TrimRight(line, "\r\n")))
}

// message tells of a part of the message.
func (t tracer) message(size int) {
	if t != nil {
		t(fmt.Sprintf("C: (%d bytes of the message)", size))
	}
}

// secured tells of a handshake.
func (t tracer) secured(state *tls.ConnectionState) {
	switch {
	case t == nil:
	case state.Version == 0: // rehearsed
		t("(TLS)")
	default:
		t(fmt.Sprintf("(%s, %s)", tls.VersionName(state.Version),
			tls.CipherSuiteName(state.CipherSuite)))
	}
}
