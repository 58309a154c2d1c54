package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// The test for injection is that of Poddebniak, Ising, Böck and Schinzel ("Why TLS Is Better
// Without STARTTLS", 2021): STARTTLS and a second command go in one segment, in plaintext. A server
// that answers the second one once TLS stands has kept it over the handshake, and runs, as if it
// had come over TLS, what anybody on the way has put there.

// A script is how to test a protocol. No command in it does anything.
type script struct {
	greeting, agreed *regexp.Regexp // the last line of what the server says
	before           string         // what comes before STARTTLS; "" for nothing
	beforeEnd        *regexp.Regexp
	payload          string // STARTTLS and the second command
	after            string // a command over TLS
	reply            *regexp.Regexp
	unasked          int // replies that come over TLS without being asked for
}

var (
	codeReply = regexp.MustCompile(`^[1-5][0-9][0-9]( |\r?\n|$)`)
	smtpReady = regexp.MustCompile(`^220( |\r?\n|$)`)
	popReply  = regexp.MustCompile(`^(\+OK|-ERR)`)
	popAgreed = regexp.MustCompile(`^\+OK`)
	imapFirst = regexp.MustCompile(`^\* OK`)
	imapReply = regexp.MustCompile(`^whorl[0-9] (OK|NO|BAD)`)
	imapReady = regexp.MustCompile(`^whorl1 OK`)
	ftpReady  = regexp.MustCompile(`^234( |\r?\n|$)`)
	nntpFirst = regexp.MustCompile(`^20[01]( |\r?\n|$)`)
	nntpReady = regexp.MustCompile(`^382( |\r?\n|$)`)
	sieveOK   = regexp.MustCompile(`^OK`)
	sieveEnd  = regexp.MustCompile(`^(OK|NO|BYE)`)
)

var scripts = map[string]script{
	"smtp": {
		greeting: smtpReady, before: "EHLO " + probeName + "\r\n", beforeEnd: codeReply,
		payload: "STARTTLS\r\nNOOP\r\n", agreed: smtpReady, after: "NOOP\r\n", reply: codeReply,
	},
	"imap": {
		greeting: imapFirst, payload: "whorl1 STARTTLS\r\nwhorl2 NOOP\r\n", agreed: imapReady,
		after: "whorl3 NOOP\r\n", reply: imapReply,
	},
	"pop3": {
		greeting: popAgreed, payload: "STLS\r\nCAPA\r\n", agreed: popAgreed, after: "CAPA\r\n",
		reply: popReply,
	},
	"ftp": {
		greeting: smtpReady, payload: "AUTH TLS\r\nNOOP\r\n", agreed: ftpReady, after: "NOOP\r\n",
		reply: codeReply,
	},
	"nntp": {
		greeting: nntpFirst, payload: "STARTTLS\r\nDATE\r\n", agreed: nntpReady, after: "DATE\r\n",
		reply: codeReply,
	},
	"sieve": {
		greeting: sieveOK, payload: "STARTTLS\r\nNOOP\r\n", agreed: sieveOK, after: "NOOP\r\n",
		reply: sieveEnd, unasked: 1, // the list of capabilities, RFC 5804, section 2.2
	},
}

func init() {
	lmtp := scripts["smtp"]
	lmtp.before = "LHLO " + probeName + "\r\n"
	scripts["lmtp"] = lmtp
}

// injectable returns an error if the target can't be tested for injection.
func (p *prober) injectable() error {
	if _, ok := scripts[p.target.StartTLS]; !ok {
		return wrong("Injection", fmt.Errorf("the test is for STARTTLS in %s",
			strings.Join(slices.Sorted(maps.Keys(scripts)), ", ")))
	}
	return nil
}

// inject makes the test.
func (p *prober) inject(ctx context.Context) {
	began := time.Now()
	injection := p.tryInjection(ctx, scripts[p.target.StartTLS])
	p.report.Injection = &injection
	status := Passed
	if injection.Verdict == Vulnerable {
		status = Failed
		p.report.add(found(IDInjection, layerInjection, injection.Detail))
	}
	p.report.layer(layerInjection, status,
		string(injection.Verdict)+": "+injection.Detail, began)
}

func (p *prober) tryInjection(ctx context.Context, s script) Injection {
	config := p.config(p.base)
	config.InsecureSkipVerify = true
	c, err := p.connect(ctx, func(to *client.Config) { to.TLS, to.EOF = config, "\r\n" })
	if err != nil {
		return Injection{Inconclusive, "no connection"}
	}
	defer c.Close()
	if err := p.dialogue(ctx, c, s); err != nil {
		return Injection{
			Inconclusive,
			fmt.Sprintf("the dialogue did not come to STARTTLS: %v", err),
		}
	}
	said, err := c.Recv(ctx)
	switch {
	case isTimeout(err):
		return Injection{
			Inconclusive,
			"the server does not answer STARTTLS with a command behind it",
		}
	case err != nil:
		return Injection{
			Safe,
			"the server ends the connection after STARTTLS with a command behind it",
		}
	}
	if !s.agreed.Match(said) {
		return Injection{
			Safe,
			fmt.Sprintf("the server answers STARTTLS with a command behind it with %+q",
				cut(said)),
		}
	}
	switch err := c.EnableSSL(ctx); {
	case errors.Is(err, socket.ErrPlaintextPending), err != nil &&
		asExplained(err) != nil && asExplained(err).Reason == explain.ReasonPlaintext:
		return Injection{Safe, "the server answers the second command in plaintext, before TLS"}
	case isTimeout(err) || ctx.Err() != nil:
		return Injection{Inconclusive, "the handshake doesn't end"}
	case err != nil:
		return Injection{Safe, "the server ends the connection, or the handshake fails"}
	}
	return p.count(ctx, c, s)
}

// dialogue goes up to STARTTLS and the command behind it.
func (p *prober) dialogue(ctx context.Context, c *client.Client, s script) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout) // however many lines the server has
	defer cancel()
	if err := until(ctx, c, s.greeting); err != nil {
		return err
	}
	if s.before != "" {
		if _, err := c.Send(ctx, []byte(s.before)); err != nil {
			return err
		}
		if err := until(ctx, c, s.beforeEnd); err != nil {
			return err
		}
	}
	_, err := c.Send(ctx, []byte(s.payload))
	return err
}

// maxLines is how many lines until reads for one reply.
const maxLines = 200

// until receives lines up to the one that matches.
func until(ctx context.Context, c *client.Client, last *regexp.Regexp) error {
	for range maxLines {
		said, err := c.Recv(ctx)
		if err != nil || last.Match(said) {
			return err
		}
	}
	return packet.ErrPacketTooLarge
}

// count counts the replies over TLS: one too many is that to the second command.
func (p *prober) count(ctx context.Context, c *client.Client, s script) Injection {
	ctx, cancel := context.WithTimeout(ctx, 2*p.options.Timeout)
	defer cancel()
	unasked, last := p.replies(ctx, c, s, s.unasked+1)
	if unasked > s.unasked {
		return Injection{Vulnerable, fmt.Sprintf(
			"the server runs a command over TLS that was sent in plaintext: it answers %+q",
			cut(last),
		)}
	}
	if _, err := c.Send(ctx, []byte(s.after)); err != nil {
		return Injection{Safe, "the server ends the connection"}
	}
	switch asked, last := p.replies(ctx, c, s, 2); { // the first one is due
	case asked > 1:
		return Injection{Vulnerable, fmt.Sprintf(
			"the server gives two replies over TLS to one command, the second is %+q: it has kept "+
				"what was sent in plaintext", cut(last))}
	case asked == 0:
		return Injection{Inconclusive, "the server says nothing any more"}
	}
	return Injection{Safe, "the server has dropped the command that was sent in plaintext"}
}

// replies counts replies up to most, or until nothing comes any more.
func (p *prober) replies(
	ctx context.Context, c *client.Client, s script, most int,
) (n int, last []byte) {
	for range maxLines {
		patience := p.patience()
		if n == 0 && most > 1 {
			patience = p.longer()
		}
		said, err := p.recv(ctx, c, patience)
		if err != nil {
			return n, last
		}
		if !s.reply.Match(said) {
			continue
		}
		n, last = n+1, said
		if n >= most {
			break
		}
	}
	return n, last
}

func cut(said []byte) []byte { return bytes.TrimRight(said[:min(60, len(said))], "\r\n") }
