// Starttls sends a mail over a connection that begins in plaintext and becomes TLS in place, and
// shows the whole dialogue.
//
//	go run ./examples/starttls
//
// talks to an SMTP server in the same process.
//
//	go run ./examples/starttls -addr mail.example.com:587 -from me@example.com -to you@example.com -user me -password-file secret
//
// talks to a real one. session.go is the dialogue, on a Whorl client that package starttls
// upgrades; explain.go puts errors into words; this file has the flags and the printing. The server
// in the process is internal/examples/mailserver.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/examples/mailserver"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/runtime"
)

func main() { program.Main("starttls", run) }

// run returns an error if the server hasn't accepted the mail.
func run(_ context.Context, args []string, stdout io.Writer) error {
	o, err := parse(args, stdout)
	if err != nil {
		return err
	}
	out := &output{w: stdout}
	if err := send(o, out); err != nil {
		return err
	}
	if out.err != nil {
		return fmt.Errorf("the mail was accepted, but the output could not be written: %w", out.err)
	}
	return nil
}

// send sends a mail, to the server in this process if there is no other.
func send(o order, out *output) error {
	var local *mailserver.Server
	mails := make(chan mailserver.Mail, 1)
	if o.addr == "" {
		var err error
		local, err = mailserver.Start(mailserver.Config{
			Received: func(m mailserver.Mail) { mails <- m },
		})
		if err != nil {
			return err
		}
		defer local.Stop()
		o.addr, o.roots, o.user, o.password = local.Addr, local.Roots, local.User, local.Password
	}
	out.printf("Server: %s\n\n", o.addr)

	var s *session
	err := runtime.Run(func(ctx context.Context) error {
		s = newSession(o, func(l line) {
			// This runs in a coroutine. Standard output may block, which the loop must not, so that
			// is awaited.
			runtime.Await(ctx, func() (struct{}, error) { out.line(l); return struct{}{}, nil })
		})
		return s.run(ctx)
	}, runtime.WithLoops(1)) // one connection keeps one loop busy
	if err != nil {
		return err
	}

	out.printf("\nAgreed on: %s\n\nTime:\n", s.tls)
	for _, t := range s.times {
		out.printf("  %-18s %7.2f ms\n", t.phase, float64(t.took.Microseconds())/1000)
	}
	if local == nil {
		out.printf("\nThe server has accepted the mail: %s\n", reply.Printable(s.accepted))
		return nil
	}
	m := <-mails // the server puts it there before it accepts it
	out.printf(
		"\nThe mail as the server got it, from %s, who logged in as %s, to %s:\n",
		m.From,
		m.User,
		strings.Join(m.To, ", "),
	)
	for text := range strings.Lines(m.Text) {
		out.printf("  | %s\n", reply.Printable(strings.TrimRight(text, "\r\n")))
	}
	return nil
}

// An output writes until that fails, and remembers why.
type output struct {
	w   io.Writer
	err error
}

func (o *output) printf(format string, args ...any) {
	if o.err == nil {
		_, o.err = fmt.Fprintf(o.w, format, args...)
	}
}

// line prints a line of the dialogue: how it was sent, by whom, and what.
func (o *output) line(l line) {
	how := "plain"
	if l.secure {
		how = "TLS"
	}
	o.printf("%5s  %s: %s\n", how, l.who, l.text)
}

// flags are the flags as given.
type flags struct {
	order
	passwordFile string
	ca           string
}

func define(f *flags) *flag.FlagSet {
	set := flag.NewFlagSet("starttls", flag.ContinueOnError)
	set.StringVar(
		&f.addr,
		"addr",
		"",
		"`host:port` of a server; without it there is one in this process",
	)
	set.StringVar(&f.from, "from", "alice@example.com", "`address` of the sender")
	set.StringVar(&f.to, "to", "bob@example.com", "`address` of the recipient")
	set.StringVar(&f.user, "user", "", "`name` to log in with; without it there is no login")
	set.StringVar(&f.passwordFile, "password-file", "", "`file` with the password")
	set.StringVar(
		&f.ca,
		"ca",
		"",
		"`file` with the certificates of the authorities to trust (PEM); without it the system's",
	)
	set.StringVar(
		&f.serverName,
		"server-name",
		"",
		"`name` that the server's certificate has to be for; without it the host of -addr",
	)
	set.DurationVar(&f.timeout, "timeout", 10*time.Second, "time-out of each step")
	return set
}

// parse makes an order of the flags, or says what is wrong with them.
func parse(args []string, stdout io.Writer) (order, error) {
	var f flags
	set := define(&f)
	if err := program.Parse(set, args, stdout); err != nil {
		return order{}, err
	}
	given := make(map[string]bool)
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	err := f.check(given)
	if err == nil {
		err = f.read(given)
	}
	if err != nil {
		return order{}, program.Usage("%w", err)
	}
	return f.order, nil
}

// check returns what makes no sense.
func (f *flags) check(given map[string]bool) error {
	if f.timeout <= 0 {
		return fmt.Errorf("-timeout %v is no time to do anything in", f.timeout)
	}
	if err := checkAddress(f.from); err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	if err := checkAddress(f.to); err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	if !given["addr"] {
		for _, name := range []string{"user", "password-file", "ca", "server-name"} {
			if given[name] {
				return fmt.Errorf("-%s is for a real server: -addr is missing", name)
			}
		}
		return nil
	}
	if err := checkHostPort(f.addr); err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	switch {
	case !given["from"] || !given["to"]:
		return errors.New("-addr needs -from and -to")
	case given["user"] != given["password-file"]:
		return errors.New("-user and -password-file belong together")
	case given["user"] && (f.user == "" || f.user != reply.Printable(f.user)):
		return fmt.Errorf("-user: %s is not a name", quote(f.user))
	case given["server-name"] && !plainWord(f.serverName):
		return fmt.Errorf("-server-name: %s is not a name", quote(f.serverName))
	}
	return nil
}

// read reads the files.
func (f *flags) read(given map[string]bool) error {
	if given["password-file"] {
		content, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return fmt.Errorf("-password-file: %w", err)
		}
		f.password = strings.TrimRight(string(content), "\r\n")
		if f.password == "" || strings.ContainsAny(f.password, "\r\n\x00") {
			return fmt.Errorf(
				"-password-file: %s has to have one line with the password",
				quote(f.passwordFile),
			)
		}
	}
	if given["ca"] {
		content, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		f.roots = x509.NewCertPool()
		if !f.roots.AppendCertsFromPEM(content) {
			return fmt.Errorf("-ca: %s has no certificate in PEM", quote(f.ca))
		}
	}
	return nil
}

func checkHostPort(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !plainWord(host) {
		return fmt.Errorf("%s is not host:port", quote(addr))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s is not a port", quote(port))
	}
	return nil
}

// checkAddress refuses what could be more than an address: a line end in it would begin a command
// of its own (MAIL FROM:<…>) or a header.
func checkAddress(address string) error {
	local, domain, ok := strings.Cut(address, "@")
	if !ok || !plainWord(local) || !plainWord(domain) || strings.Contains(domain, "@") ||
		len(address) > 254 {
		return fmt.Errorf("%s is not an address such as me@example.com", quote(address))
	}
	return nil
}

// plainWord reports whether s is a word of printable ASCII characters, without the brackets that
// SMTP gives a meaning.
func plainWord(s string) bool {
	for _, c := range s {
		if c <= ' ' || c > '~' || strings.ContainsRune(`<>"\`, c) {
			return false
		}
	}
	return s != ""
}
