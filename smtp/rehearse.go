package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/whorl-go/whorl/socket"
)

// Rehearse tells config.Trace of the dialogue in which a mail would be sent: to a server that
// offers all extensions that this package knows, and the first mechanism of config.Auth, and
// accepts everything. It makes no connection and no TLS handshake, and asks for no credentials.
// This side's name is Config.Hello, or an address that stands for its own. The message is written,
// as it is by [Client.Send]; the errors are those of Send about what can't be sent.
func Rehearse(ctx context.Context, config Config, mail *Mail) error {
	r := &rehearsal{secure: config.Security == Implicit}
	if len(config.Auth) > 0 {
		name := config.Auth[0].Name
		r.mechanism = name
		config.Auth = []Mechanism{{name, func(context.Context, Session) (sasl.Client, error) {
			return &bearer{name: name, initial: "credentials"}, nil
		}}}
	}
	d, err := NewDialer(config)
	if err != nil {
		return err
	}
	r.lmtp = config.LMTP
	r.say("220 server.invalid, a rehearsal")
	c := &Client{dialer: d, address: "rehearsal", conn: r}
	if err := c.begin(ctx); err != nil {
		return c.wrap(err)
	}
	if _, err := c.Send(ctx, mail); err != nil {
		return errors.Join(err, c.Close())
	}
	return c.Quit(ctx)
}

// A rehearsal is the transport of a session with a server that isn't there, and says yes to
// everything.
type rehearsal struct {
	lmtp      bool
	secure    bool   // TLS is on
	mechanism string // that is offered; empty: none

	replies    [][]byte // lines that were not received yet
	recipients int      // of the mail

	// Of the message.
	data  bool   // it is being sent, after DATA
	tail  []byte // its last bytes
	chunk int    // bytes that are left of a chunk
	last  bool   // the chunk is the last one
}

// say is what the server says.
func (r *rehearsal) say(lines ...string) {
	for _, line := range lines {
		r.replies = append(r.replies, []byte(line+"\r\n"))
	}
}

// Send takes commands, and the message.
func (r *rehearsal) Send(_ context.Context, p []byte) (int, error) {
	size := len(p)
	for len(p) > 0 {
		switch {
		case r.chunk > 0:
			n := min(r.chunk, len(p))
			p = p[n:]
			if r.chunk -= n; r.chunk == 0 {
				r.chunkEnded()
			}
		case r.data:
			r.tail = append(r.tail[max(0, len(r.tail)-len(dot)):], p...)
			p = nil
			if bytes.HasSuffix(r.tail, dot) {
				r.data, r.tail = false, nil
				r.delivered()
			}
		default:
			var line []byte
			line, p, _ = bytes.Cut(p, []byte("\r\n"))
			r.answer(string(line))
		}
	}
	return size, nil
}

var dot = []byte("\r\n.\r\n") // the end of a message

func (r *rehearsal) answer(line string) {
	verb, argument, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO", "LHLO":
		r.hello()
	case "STARTTLS":
		r.say("220 go ahead")
	case "AUTH":
		r.say("235 2.7.0 welcome")
	case "MAIL":
		r.recipients = 0
		r.say("250 2.1.0 ok")
	case "RCPT":
		r.recipients++
		r.say("250 2.1.5 ok")
	case "DATA":
		r.data, r.tail = true, []byte("\r\n")
		r.say("354 go ahead")
	case "BDAT":
		size, last, _ := strings.Cut(argument, " ")
		r.chunk, _ = strconv.Atoi(size)
		if r.last = last != ""; r.chunk == 0 {
			r.chunkEnded()
		}
	case "QUIT":
		r.say("221 2.0.0 bye")
	default:
		r.say("250 2.0.0 ok")
	}
}

func (r *rehearsal) hello() {
	r.say("250-server.invalid", "250-PIPELINING", "250-SIZE", "250-8BITMIME", "250-SMTPUTF8",
		"250-CHUNKING", "250-BINARYMIME", "250-DSN", "250-MT-PRIORITY")
	switch {
	case !r.secure:
		r.say("250-STARTTLS")
	case r.mechanism != "":
		r.say("250-REQUIRETLS", "250-AUTH "+r.mechanism)
	default:
		r.say("250-REQUIRETLS")
	}
	r.say("250 ENHANCEDSTATUSCODES")
}

func (r *rehearsal) chunkEnded() {
	if r.last {
		r.delivered()
	} else {
		r.say("250 2.0.0 ok")
	}
}

// delivered answers the end of the message, in LMTP once for each recipient.
func (r *rehearsal) delivered() {
	replies := 1
	if r.lmtp {
		replies = r.recipients
	}
	for range replies {
		r.say("250 2.0.0 accepted")
	}
}

// Recv returns a line of a reply.
func (r *rehearsal) Recv(context.Context) ([]byte, error) {
	line := r.replies[0]
	r.replies = r.replies[1:]
	return line, nil
}

// EnableSSL is a handshake that goes well.
func (r *rehearsal) EnableSSL(context.Context) error {
	r.secure = true
	return nil
}

func (r *rehearsal) ConnectionState() (state tls.ConnectionState, ok bool) {
	return state, r.secure
}

// LocalAddr is an address for documentation, RFC 5737.
func (*rehearsal) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

func (*rehearsal) Peek([]byte) (int, error) { return 0, socket.ErrWouldBlock }
func (*rehearsal) Close() error             { return nil }
func (*rehearsal) Abort() error             { return nil }
func (*rehearsal) arrived() bool            { return false }
func (*rehearsal) rest()                    {}
func (*rehearsal) patience(time.Duration)   {}
