package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/smtp/internal/engine"
)

// Security says what a session does about TLS.
type Security = engine.Security

// Kinds of security.
const (
	Mandatory     = engine.Mandatory     // STARTTLS, or nothing is sent
	Implicit      = engine.Implicit      // TLS from the start: port 465, RFC 8314
	Opportunistic = engine.Opportunistic // STARTTLS if it is offered; else no credentials are sent
)

// Config says how Clients connect, and who they say they are. The zero Config is usable.
type Config struct {
	Security Security

	// Auth are the mechanisms to log in with, the best one first: see [Password], [Bearer] and
	// [External]. The first one that the server offers is used, and no other one. Empty: no login.
	Auth []Mechanism

	// LMTP has servers be spoken to by LMTP, which deliver themselves. They are often local, so
	// that Opportunistic is in place.
	LMTP bool

	// Hello is the name for EHLO: this side's domain. Empty: its address, "[192.0.2.1]".
	Hello string

	// Chunking has mails go by BDAT where the server offers it, and not only those that are Binary.
	// It costs a round trip for each MiB.
	Chunking bool

	// Timeouts are how long a server is waited for.
	Timeouts Timeouts

	// Trace is told of each line of the dialogue, without its end: "C: " and what this side says,
	// "S: " and what the server says, as in RFC 5321, and "(TLS 1.3, …)" for a handshake. What a
	// login consists of is left out, and of the message all but its size. It is called on the loop,
	// by several sessions at a time if there are several.
	Trace func(line string)

	// Client is the connection's: TLS, proxy, local address, time-outs of connecting and of the TLS
	// handshake. A framing and other time-outs in it are an error: these are set here.
	Client client.Config
}

// Timeouts are how long a server may take for each of its replies, as RFC 5321, section 4.5.3.2,
// has them. 0 means what the RFC says, negative no limit. An error names the step.
type Timeouts struct {
	Greeting  time.Duration // after connecting: 5 minutes
	Hello     time.Duration // EHLO, and STARTTLS: 5 minutes
	Auth      time.Duration // each step of a login: 5 minutes
	Mail      time.Duration // MAIL: 5 minutes
	Rcpt      time.Duration // each RCPT: 5 minutes
	DataInit  time.Duration // DATA: 2 minutes
	DataBlock time.Duration // taking any of the message: 3 minutes
	DataEnd   time.Duration // the end of the message: 10 minutes
	Other     time.Duration // RSET, NOOP, VRFY, QUIT: 5 minutes
}

// steps returns the time-outs by step; zero is none.
func (t Timeouts) steps() (steps [engine.Steps]time.Duration) {
	const usual = 5 * time.Minute
	for step, limit := range [engine.Steps]struct{ given, usual time.Duration }{
		engine.Greeting:  {t.Greeting, usual},
		engine.Hello:     {t.Hello, usual},
		engine.StartTLS:  {t.Hello, usual},
		engine.Auth:      {t.Auth, usual},
		engine.Reset:     {t.Other, usual},
		engine.Mail:      {t.Mail, usual},
		engine.Rcpt:      {t.Rcpt, usual},
		engine.DataInit:  {t.DataInit, 2 * time.Minute},
		engine.DataBlock: {t.DataBlock, 3 * time.Minute},
		engine.DataEnd:   {t.DataEnd, 10 * time.Minute},
		engine.Other:     {t.Other, usual},
	} {
		steps[step] = max(limit.given, 0)
		if limit.given == 0 {
			steps[step] = limit.usual
		}
	}
	return steps
}

// A Dialer makes Clients that share a configuration, with its TLS sessions: each of very many takes
// less memory. Its methods may be called from anywhere.
type Dialer struct {
	client   *client.Dialer
	engine   engine.Config
	auth     []Mechanism
	hello    string
	chunking bool
	network  string
	timeouts [engine.Steps]time.Duration
	trace    tracer
}

// NewDialer makes a Dialer. The error says what is wrong with the configuration.
func NewDialer(config Config) (*Dialer, error) {
	if config.Hello != "" {
		if err := engine.CheckName(config.Hello); err != nil {
			return nil, fmt.Errorf("smtp: Config.Hello: %w", err)
		}
	}
	if config.Security > Opportunistic {
		return nil, fmt.Errorf("smtp: Config.Security: %w: %d", ErrInvalid, config.Security)
	}
	if err := checkClient(&config.Client); err != nil {
		return nil, fmt.Errorf("smtp: Config.Client: %w: %w", ErrInvalid, err)
	}
	d := &Dialer{
		engine: engine.Config{
			Security: config.Security, LMTP: config.LMTP, ASCII: dialing.ASCII,
		},
		auth:     config.Auth,
		hello:    config.Hello,
		chunking: config.Chunking,
		network:  "tcp",
		timeouts: config.Timeouts.steps(),
		trace:    config.Trace,
	}
	if config.Security == Implicit {
		d.network = "tls"
	}
	c := config.Client
	c.EOF, c.MaxPacket = "\r\n", reply.MaxLine
	c.WriteTimeout = d.timeouts[engine.DataBlock]
	if c.WriteTimeout == 0 {
		c.WriteTimeout = -1
	}
	var err error
	if d.client, err = client.NewDialer(c); err != nil {
		return nil, fmt.Errorf("smtp: Config.Client: %w", err)
	}
	return d, nil
}

// checkClient returns an error for what would be ignored.
func checkClient(c *client.Config) error {
	framer, err := packet.Rule{EOF: c.EOF, Length: c.Length, Split: c.Split}.Framer()
	switch {
	case framer != nil || err != nil || c.MaxPacket != 0:
		return errors.New("it has a framing, which is this package's")
	case c.ReadTimeout != 0 || c.WriteTimeout != 0:
		return errors.New("say Config.Timeouts, not ReadTimeout and WriteTimeout")
	}
	return nil
}

// Dial connects to a server, secures the session and logs in, as the configuration says. address is
// "host:port", or the path of a Unix socket.
func (d *Dialer) Dial(ctx context.Context, address string) (*Client, error) {
	c := &Client{dialer: d, address: address}
	network := d.network
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		network = "unix"
	}
	conn, err := d.client.Dial(ctx, network, address)
	if err != nil {
		return nil, c.wrap(err)
	}
	c.conn = connection{conn}
	if d.engine.Security == Implicit {
		c.traceTLS()
	}
	if err := c.begin(ctx); err != nil {
		return nil, c.wrap(err)
	}
	return c, nil
}

// Dial is [Dialer.Dial] with a Dialer of its own, which costs more than the rest of it.
func Dial(ctx context.Context, address string, config Config) (*Client, error) {
	d, err := NewDialer(config)
	if err != nil {
		return nil, err
	}
	return d.Dial(ctx, address)
}
