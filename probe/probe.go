package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/internal/fallback"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// DefaultTimeout is how long each step may take: an address to connect, a dialogue, a handshake.
const DefaultTimeout = 10 * time.Second

// Options say how to probe. The zero Options are usable.
type Options struct {
	// Roots are the authorities to trust; nil: the system's.
	Roots *x509.CertPool

	// Certificate is for a server that asks for one; nil: none is shown.
	Certificate *tls.Certificate

	// Timeout is for each step; 0 means DefaultTimeout.
	Timeout time.Duration

	// Header is sent with the request to a target with a Scheme: credentials, another Origin, Host
	// or User-Agent. It is not in the report. A server that isn't verified is sent none, and asked
	// for nothing.
	Header http.Header

	// Subprotocols are offered to a WebSocket.
	Subprotocols []string

	// Policy is what the server has to keep to, besides what is safe and works.
	Policy Policy

	// Injection has the server tested for running what was sent in plaintext behind STARTTLS, with
	// commands that do nothing. Only for servers of one's own.
	Injection bool

	// Resolver looks the host up; nil: net.DefaultResolver.
	Resolver socket.Resolver
}

// Run probes a server. It may be called from anywhere; outside a coroutine it uses a runtime of its
// own.
//
// What is wrong with the server is in the report. The error says what is wrong with the call, by a
// *tlsconfig.OptionError that names the field, or that ctx is done, in which case the report has
// what was found until then.
func Run(ctx context.Context, target Target, options Options) (*Report, error) {
	if err := target.check(); err != nil {
		return nil, err
	}
	if err := options.Policy.check(); err != nil {
		return nil, err
	}
	if err := options.checkRequest(target.Scheme); err != nil {
		return nil, err
	}
	if options.Timeout <= 0 {
		options.Timeout = DefaultTimeout
	}
	host, err := dialing.ASCII(target.Host)
	if err != nil {
		return nil, wrong("Host", err)
	}
	name, err := dialing.ASCII(target.name())
	if err != nil {
		return nil, wrong("ServerName", err)
	}
	p := &prober{
		target: target, options: options, host: host, name: name,
		report: &Report{
			Schema: Schema, Target: &target, Began: time.Now().UTC(), Layers: []Layer{},
			Findings: []Finding{}, Policy: options.Policy,
		},
		ticket: newTicket(),
	}
	if target.StartTLS != "" {
		protocol, err := starttls.ParseProtocol(target.StartTLS)
		if err != nil {
			return nil, wrong("StartTLS", err)
		}
		p.protocol = &protocol
	}
	if options.Injection {
		if err := p.injectable(); err != nil {
			return nil, err
		}
	}
	ctx, end, err := within(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	p.run(ctx)
	p.report.Seconds = time.Since(p.report.Began).Seconds()
	return p.report, ctx.Err()
}

// within returns a context with a runtime, and what ends that.
func within(ctx context.Context) (context.Context, func(), error) {
	if runtime.Current(ctx) != nil {
		return ctx, func() {}, nil
	}
	rt, err := runtime.New(runtime.WithName("probe"), runtime.WithLoops(1))
	if err == nil {
		err = rt.Start()
	}
	if err != nil {
		return nil, nil, err
	}
	with, err := fallback.Within(ctx, rt)
	return with, func() {
		patience, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		rt.Shutdown(patience)
	}, err
}

// A prober is one probe.
type prober struct {
	target   Target
	options  Options
	host     string // as DNS has it
	name     string // whose certificate is expected, as DNS has it
	protocol *starttls.Protocol
	report   *Report

	address string        // that is probed: the first that takes a connection
	trip    time.Duration // how long that took
	base    attempt       // the handshake that works
	ticket  *ticket       // of the first connection that works
}

// run goes from layer to layer, as far as it can.
func (p *prober) run(ctx context.Context) {
	if !p.reach(ctx) || !p.greeting(ctx) {
		return
	}
	s := p.first(ctx)
	if s == nil {
		return
	}
	began := time.Now()
	heard, err := p.hear(ctx, s)
	p.judge(ctx, s)
	switch refused := p.late(s, err, began); {
	case refused:
	case p.secret() && !p.verified():
		p.report.layer(layerAnswer, Failed, "not asked for: the server isn't verified, and a "+
			"header or a query may be secret", time.Now())
	default:
		p.answer(ctx, s, heard)
	}
	s.close()
	p.ask(ctx, s)
	if p.options.Injection {
		p.inject(ctx)
	}
	p.policy(s)
}

// shakeFirst is shake for a connection whose session will be taken up again.
func (p *prober) shakeFirst(ctx context.Context, a attempt) (*session, error) {
	a.cache = p.ticket
	return p.shake(ctx, a)
}

// hear waits for what the server says of the client's certificate, if it has asked for one, and for
// a greeting over TLS where one may come.
func (p *prober) hear(ctx context.Context, s *session) ([]byte, error) {
	if s.failure != nil {
		return nil, nil
	}
	greets := p.protocol == nil && p.target.Scheme == ""
	if s.state.Version == tls.VersionTLS13 && (s.asked != nil || !greets) {
		patience := p.patience()
		if s.asked != nil {
			patience = p.longer()
		}
		if said, err := p.untilTicket(ctx, s, patience); err != nil || len(said) > 0 || !greets {
			return said, err
		}
	}
	if !greets {
		return nil, nil
	}
	return s.listen(ctx, p.patience())
}

// untilTicket listens until the server has sent its session ticket, which it does when it has taken
// the client's certificate and before all else.
func (p *prober) untilTicket(
	ctx context.Context, s *session, patience time.Duration,
) ([]byte, error) {
	if p.ticket.here {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.ticket.came = cancel
	defer func() { p.ticket.came = nil }()
	return s.listen(ctx, patience)
}

// patience is how long to wait for what may not come: long enough for the path and a busy server.
func (p *prober) patience() time.Duration {
	return min(p.options.Timeout, max(300*time.Millisecond, 4*p.trip))
}

// longer is how long to wait for what is due, and may be missing all the same.
func (p *prober) longer() time.Duration {
	return min(p.options.Timeout, max(2*time.Second, 4*p.trip))
}

// greeting sees whether the server speaks first, which a server of TLS doesn't.
func (p *prober) greeting(ctx context.Context) bool {
	if p.protocol != nil {
		return true // it is for the dialogue
	}
	began := time.Now()
	c, err := p.connect(ctx, nil)
	if err != nil {
		return true // the handshake will tell
	}
	defer c.Close()
	first, err := p.recv(ctx, c, min(p.patience(), 4*p.trip+50*time.Millisecond))
	if err != nil || len(first) == 0 {
		return true // one that comes later is found by the handshake
	}
	finding := p.spoke(first, layerGreeting)
	p.report.layer(layerGreeting, Failed, "the server speaks first: "+p.report.Greeting, began)
	p.report.add(finding)
	return false
}

// spoke makes a finding of what the server has said in plaintext.
func (p *prober) spoke(first []byte, layer string) Finding {
	p.report.Greeting = line(first)
	finding := explained(explain.Plaintext(first, p.target.Host, nil), layer)
	if protocol := startTLSFor(explain.Protocol(first)); protocol != "" {
		finding.Mend = strings.TrimSuffix(finding.Mend, ".") + "; here that is STARTTLS in " +
			protocol + "."
	}
	return finding
}

// startTLSFor returns the name, for STARTTLS, of a protocol that package explain has recognised.
func startTLSFor(protocol string) string {
	switch protocol {
	case "SMTP", "LMTP", "FTP", "NNTP", "IMAP", "POP3", "IRC", "MySQL":
		return strings.ToLower(protocol)
	case "SMTP (or FTP)":
		return "smtp"
	case "ManageSieve":
		return "sieve"
	case "XMPP":
		return "xmpp-client"
	}
	return ""
}

// first makes the first handshake, as any client would, and if that fails, tries others that tell
// why. It returns nil when none works.
func (p *prober) first(ctx context.Context) *session {
	began := time.Now()
	p.base = attempt{}
	if p.target.Scheme != "" {
		p.base.alpn = []string{"http/1.1"}
	}
	s, err := p.shakeFirst(ctx, p.base)
	if err != nil {
		layer := whereFailed(s.failure)
		detail := line([]byte(err.Error()))
		if e := asExplained(err); e != nil {
			detail = e.Detail
		}
		p.report.layer(layer, Failed, detail, began)
		seen := s
		if s = p.diagnose(ctx, s, err, layer); s == nil {
			if len(seen.state.PeerCertificates) > 0 {
				p.judge(ctx, seen)
			}
			return nil
		}
	} else {
		if p.protocol != nil {
			p.report.layer(layerStartTLS, Passed, "the server agrees, in "+p.target.StartTLS, began)
		}
		p.report.layer(layerHandshake, Passed, s.describe(), began)
	}
	p.report.Session = s.summary()
	return s
}

// late looks at what the server says of the client's certificate, and reports whether it refuses
// the client. With TLS 1.3 it says so after the client's handshake has succeeded.
func (p *prober) late(s *session, err error, began time.Time) (refused bool) {
	if s.asked == nil {
		return false
	}
	if err == nil {
		err = s.failure // with TLS 1.2
	}
	e := asExplained(p.explain(err, s))
	switch {
	case e != nil && (e.Reason == explain.ReasonClientCertRequired ||
		e.Reason == explain.ReasonClientCertRefused):
		p.report.layer(layerClient, Failed, e.Detail, began)
		p.refusesClient(s, e, layerClient)
		s.failure = err
		return true
	case err == nil:
		detail := "the server asks for one, and goes on without"
		if s.shown {
			detail = "the server asks for one, and takes what it gets"
		}
		p.report.layer(layerClient, Passed, detail, began)
	}
	return false
}

// refusesClient adds that the server doesn't let this client in, and whose certificate it wants.
func (p *prober) refusesClient(s *session, e *explain.HandshakeError, layer string) {
	finding := explained(e, layer)
	finding.Evidence += s.wanted()
	p.report.add(finding)
}

// line returns the first line of what a peer has said, made printable.
func line(said []byte) string {
	first, _, _ := strings.Cut(string(said), "\n")
	return text.Printable(strings.TrimRight(first, "\r"), text.MaxText)
}

// isTimeout reports whether nothing came in time, after which the connection still stands.
func isTimeout(err error) bool { return errors.Is(err, runtime.ErrTimeout) }
