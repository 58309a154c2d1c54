package starttls

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// Options are what a protocol needs to be told. The zero Options are usable. Nothing in them is for
// the server to decide.
type Options struct {
	// Name is what the client calls itself in EHLO and LHLO: its domain or, if it has none, its
	// address in brackets. Empty: the address of the connection, "[192.0.2.1]".
	Name string

	// Domain is the XMPP domain that is wanted, without which a server of several doesn't know
	// which it is to be. The certificate has to be for it, not for the host that SRV has named:
	// Config.TLS.ServerName says so to the Client, and must not be another one. Empty: the host
	// that was dialled, or Config.TLS.ServerName.
	Domain string

	// Trace, if set, is called with each command that is sent and each answer that is taken, as
	// they are on the wire. What is not taken is in the error. It is called where Upgrade is, and
	// must not keep text.
	Trace func(in Phase, sent bool, text []byte)
}

// A Session is what Upgrade has learnt.
type Session struct {
	// Capabilities are what the server says over TLS that it can do, for the protocols in which
	// Upgrade asks for it: the lines of EHLO's answer behind the server's name ("SIZE 10240000"),
	// the lines of CAPA and CAPABILITIES, IMAP's words, ManageSieve's lines with their quotes. What
	// it has said before TLS is forgotten.
	Capabilities []string

	// Greeting is MySQL's first packet, without its header, nil for others. It came in plaintext,
	// and is not sent again: take nothing from it but the scramble and the name of the plugin.
	Greeting []byte
}

// Upgrade turns a connection to a server into TLS. The Client has just been connected: nothing was
// sent on it or received. Afterwards it is where its protocol's constant says.
//
// The Client's framing is for what follows. Until then the server's answers are found by the
// protocol's own rules. ReadTimeout bounds each of them, HandshakeTimeout the handshake.
//
// An error is an [Error], and the connection is closed; it is a *runtime.PanicError if a callback
// has panicked. The connection stays as it was if it wasn't to be upgraded: socket.ErrSSLActive
// over TLS already, socket.ErrBusy while others use it, and what is wrong with the protocol or
// Options, which comes before anything is sent.
func Upgrade(ctx context.Context, c *client.Client, p Protocol, o Options) (*Session, error) {
	u := &upgrade{Client: c, protocol: p, trace: o.Trace}
	var session *Session
	var err error
	// On a stack that is kept for such things, so that those of very many coroutines stay small.
	detour := runtime.Detour(ctx, func(ctx context.Context) { session, err = u.run(ctx, &o) })
	switch {
	case detour != nil:
		c.Close()
		return nil, detour
	case session == nil && err == nil: // Trace, or a callback of the TLS configuration
		c.Close()
		return nil, runtime.ErrGoexit
	}
	return session, err
}

// upgrade is an Upgrade under way.
type upgrade struct {
	*client.Client
	protocol Protocol
	params   dialogue.Params
	trace    func(in Phase, sent bool, text []byte)
	session  Session
}

func (u *upgrade) run(ctx context.Context, o *Options) (*Session, error) {
	d, err := u.prepare(o)
	if err != nil {
		return nil, err
	}
	talk := d.Client(&u.params)
	if err := u.frame(talk); err != nil {
		return nil, failed(u.protocol, talk.Phase(), err)
	}
	// Unless all goes well; Trace may panic, too. EnableSSL has closed it with its reason.
	good := false
	defer func() {
		if !good && u.Connected() {
			u.Close()
		}
	}()
	if err := u.converse(ctx, talk); err != nil {
		return nil, failed(u.protocol, talk.Phase(), err)
	}
	if err := u.EnableSSL(ctx); err != nil {
		return nil, handshakeFailed(u.protocol, err)
	}
	again := d.Secure(&u.params)
	if err := u.again(ctx, again); err != nil {
		return nil, failed(u.protocol, again.Phase(), err)
	}
	u.session.Capabilities = again.List()
	good = true
	return &u.session, nil
}

// prepare checks everything that can be wrong before a byte is sent.
func (u *upgrade) prepare(o *Options) (*dialogue.Protocol, error) {
	d, err := dialogue.Lookup(string(u.protocol))
	if err != nil {
		return nil, fmt.Errorf("starttls: %w", err)
	}
	if _, secure := u.ConnectionState(); secure {
		return nil, fmt.Errorf("starttls: %s: %w", u.protocol, socket.ErrSSLActive)
	}
	if !u.Connected() {
		return nil, fmt.Errorf("starttls: %s: %w", u.protocol, socket.ErrNotConnected)
	}
	if u.params.Name = o.Name; o.Name == "" {
		u.params.Name = dialing.Literal(u.LocalAddr())
	}
	if !isWord(u.params.Name) {
		return nil, fmt.Errorf("starttls: Options: Name: %q is neither a domain nor an address",
			o.Name)
	}
	if u.protocol == XMPPClient || u.protocol == XMPPServer {
		return d, u.prepareDomain(o.Domain)
	}
	return d, nil
}

// prepareDomain is prepare for XMPP's domain.
func (u *upgrade) prepareDomain(domain string) error {
	verified := u.ServerName()
	if domain == "" {
		domain = verified
	}
	u.params.Domain = domain
	switch name, err := dialing.ASCII(domain); {
	case err != nil:
		return fmt.Errorf("starttls: Options: Domain: %w", err)
	case !isWord(name):
		return fmt.Errorf("starttls: Options: Domain: %q is none", domain)
	case !strings.EqualFold(name, verified):
		return fmt.Errorf("starttls: Options: Domain is %q, and the certificate would be "+
			"verified for %q: Config.TLS.ServerName has to be the same", domain, verified)
	}
	return nil
}

// isWord reports whether s is a word of printable ASCII characters, without those to which SMTP or
// XML give a meaning.
func isWord(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' || strings.ContainsRune(`<>"'&\`, r) {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// frame has Recv find a dialogue's answers.
func (u *upgrade) frame(talk *dialogue.Client) error {
	s := u.Socket()
	if s == nil {
		return net.ErrClosed // by somebody else, just now
	}
	return s.SetProtocol(talk)
}

// again is the dialogue over TLS, about whose server nothing is known yet.
func (u *upgrade) again(ctx context.Context, talk *dialogue.Client) error {
	if err := u.frame(talk); err != nil {
		return err
	}
	if err := u.converse(ctx, talk); err != nil {
		return err
	}
	return u.Reframe()
}

// converse has a dialogue, if there is anything to say.
func (u *upgrade) converse(ctx context.Context, talk *dialogue.Client) error {
	if talk.Done() {
		return nil
	}
	for !talk.Done() {
		phase := Phase(talk.Phase())
		if command := talk.Command(); command != nil {
			if err := u.unasked(talk); err != nil {
				return err
			}
			u.show(phase, true, command)
			if _, err := u.Send(ctx, command); err != nil {
				return err
			}
			if talk.Done() {
				break
			}
		}
		answer, err := u.Recv(ctx)
		if err != nil {
			return err
		}
		u.show(phase, false, answer)
		if u.protocol == MySQL {
			const header = 4
			u.session.Greeting = append([]byte(nil), answer[header:]...)
		}
	}
	return u.unasked(talk)
}

// unasked has the dialogue judge what has come without being asked for.
func (u *upgrade) unasked(talk *dialogue.Client) error {
	var early [64]byte
	n, _ := u.Peek(early[:]) // another error is that of what follows, too
	return talk.Unasked(early[:n])
}

func (u *upgrade) show(in Phase, sent bool, text []byte) {
	if u.trace != nil {
		u.trace(in, sent, text)
	}
}
