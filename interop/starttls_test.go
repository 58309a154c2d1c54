//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A question is what a client sends when it has TLS, and how an answer begins that comes then, or
// what is in it.
type question struct{ send, want string }

// A place is where a server speaks a protocol.
type place struct {
	name      string
	protocol  starttls.Protocol
	addr      string
	binary    bool // what follows isn't lines
	questions []question
	knows     string // one of the capabilities
}

// Bytes of the last three are those of package starttls's documents: a search of the root DSE, a
// StartupMessage, a HandshakeResponse41.
const (
	ldapSearch = "\x30\x2a\x02\x01\x02\x63\x25\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x01" +
		"\x02\x01\x00\x01\x01\x00\x87\x0bobjectClass\x30\x05\x04\x031.1"
	postgresStartup = "\x00\x00\x00\x26\x00\x03\x00\x00user\x00whorl\x00database\x00postgres\x00\x00"
	mysqlAbilities  = "\x05\xaa\x08\x00\x00\x00\x00\x01\x21"
)

func xmppHeader(space string) string {
	return "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' " +
		"xmlns='" + space + "' to='localhost' version='1.0'>"
}

// testPlaces upgrades connections to a server, in each of its protocols, and again without the
// authority that has signed the server's certificate.
func testPlaces(t *testing.T, config *tls.Config, places ...place) {
	t.Helper()
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			check := func(trusted bool, do func(ctx context.Context, c *client.Client) error) {
				cfg := client.Config{TLS: config.Clone(), ReadTimeout: leaktest.Patience,
					HandshakeTimeout: leaktest.Patience}
				if !trusted {
					cfg.TLS.RootCAs = servers.NewCA(t).Pool()
				}
				if !p.binary {
					cfg.EOF = "\r\n"
				}
				leaktest.Check(t, runtime.Run(func(ctx context.Context) error {
					c := client.New(cfg)
					defer c.Close()
					if err := c.Connect(ctx, "tcp", p.addr); err != nil {
						return err
					}
					return do(ctx, c)
				}))
			}
			check(true, func(ctx context.Context, c *client.Client) error {
				session, err := starttls.Upgrade(ctx, c, p.protocol, starttls.Options{})
				if err != nil {
					return err
				}
				state, _ := c.ConnectionState()
				if len(state.VerifiedChains) == 0 {
					t.Error("the certificate is not verified")
				}
				if list := "\n" + strings.Join(session.Capabilities,
					"\n") + "\n"; !strings.Contains(list, "\n"+p.knows) {
					t.Errorf("capabilities: %q, want %q", session.Capabilities, p.knows)
				}
				for _, q := range p.questions {
					if err := q.ask(ctx, c); err != nil {
						return err
					}
				}
				return nil
			})
			check(false, func(ctx context.Context, c *client.Client) error {
				_, err := starttls.Upgrade(ctx, c, p.protocol, starttls.Options{})
				refused, _ := errors.AsType[*explain.HandshakeError](err)
				if refused == nil || refused.Reason != explain.ReasonUnknownAuthority || c.Connected() {
					t.Errorf("without the authority: %v", err)
				}
				return nil
			})
			probePlace(t, config, p)
		})
	}
}

// ask asks and reads until the answer is there.
func (q question) ask(ctx context.Context, c *client.Client) error {
	if _, err := c.Send(ctx, []byte(q.send)); err != nil {
		return err
	}
	for range 100 {
		answer, err := c.Recv(ctx)
		if err != nil {
			return fmt.Errorf("behind %q: %w", q.send, err)
		}
		if strings.Contains(string(answer), q.want) {
			return nil
		}
	}
	return fmt.Errorf("%q is answered, but not by %q", q.send, q.want)
}

func TestUpgradeWithPostfix(t *testing.T) {
	p := servers.NewPostfix(t, "")
	addr := p.Start("")[0]
	testPlaces(t, &tls.Config{RootCAs: p.CA.Pool(), ServerName: "localhost"},
		place{"smtp", starttls.SMTP, addr, false, []question{{"MAIL FROM:<a@mail.test>\r\n",
			"250 2.1.0"}}, "8BITMIME"})
}

func TestUpgradeWithExim(t *testing.T) {
	s := servers.StartExim(t)
	testPlaces(t, s.TLS, place{"smtp", starttls.SMTP, s.Addr, false,
		[]question{{"MAIL FROM:<a@mail.test>\r\n", "250 OK"}}, "8BITMIME"})
}

func TestUpgradeWithDovecot(t *testing.T) {
	d := servers.StartDovecot(t, "25")
	testPlaces(t, d.TLS,
		place{"imap", starttls.IMAP, d.Addr, false,
			[]question{{`d LOGIN bob "` + servers.DovecotPassword + "\"\r\n",
				"d OK"}}, "IMAP4rev1"},
		place{"pop3", starttls.POP3, d.POP3, false, []question{{"USER bob\r\n", "+OK"},
			{"PASS " + servers.DovecotPassword + "\r\n", "+OK"}}, "UIDL"},
		place{"lmtp", starttls.LMTP, d.LMTP, false, []question{{"MAIL FROM:<a@mail.test>\r\n",
			"250 "}}, "8BITMIME"},
		place{"submission", starttls.SMTP, d.Submission, false, []question{{"NOOP\r\n", "250 "}},
			"AUTH PLAIN"},
		place{"sieve", starttls.Sieve, d.Sieve, false, []question{{"CAPABILITY\r\n", "OK"}},
			`"SASL" "PLAIN`},
	)
}

func TestUpgradeWithVsftpd(t *testing.T) {
	s := servers.StartVsftpd(t)
	testPlaces(t, s.TLS, place{"ftp", starttls.FTP, s.Addr, false,
		[]question{{"USER anonymous\r\n", "331 "}, {"PASS a@b\r\n", "230 "}}, ""})
}

func TestUpgradeWithSlapd(t *testing.T) {
	s := servers.StartSlapd(t)
	testPlaces(t, s.TLS, place{"ldap", starttls.LDAP, s.Addr, true, []question{{ldapSearch,
		"\x02\x01\x02\x65"}}, ""})
}

func TestUpgradeWithProsody(t *testing.T) {
	s, others := servers.StartProsody(t)
	testPlaces(t, s.TLS,
		place{"clients", starttls.XMPPClient, s.Addr, true,
			[]question{{xmppHeader("jabber:client"), "</stream:features>"}}, ""},
		place{"servers", starttls.XMPPServer, others, true,
			[]question{{xmppHeader("jabber:server"), "<stream:stream"}}, ""},
	)
}

func TestUpgradeWithINN(t *testing.T) {
	s := servers.StartNNRPD(t)
	testPlaces(t, s.TLS, place{"nntp", starttls.NNTP, s.Addr, false, []question{{"DATE\r\n",
		"111 "}}, "READER"})
}

func TestUpgradeWithInspIRCd(t *testing.T) {
	s := servers.StartInspIRCd(t)
	testPlaces(t, s.TLS, place{"irc", starttls.IRC, s.Addr, false,
		[]question{{"NICK whorl\r\nUSER whorl 0 * :whorl\r\n", " 001 whorl "}}, ""})
}

func TestUpgradeWithPostgreSQL(t *testing.T) {
	s := servers.StartPostgres(t)
	testPlaces(t, s.TLS, place{"postgres", starttls.Postgres, s.Addr, true,
		[]question{{postgresStartup, "R\x00\x00\x00\x08\x00\x00\x00\x00"}}, ""})
}

func TestUpgradeWithMariaDB(t *testing.T) {
	s := servers.StartMariaDB(t)
	login := mysqlAbilities + strings.Repeat("\x00", 23) + "whorl\x00\x00mysql_native_password\x00"
	testPlaces(t, s.TLS, place{"mysql", starttls.MySQL, s.Addr, true,
		[]question{{string([]byte{byte(len(login)), 0, 0, 2}) + login,
			"\x00\x00\x03\x00\x00\x00\x02"}}, ""})
}
