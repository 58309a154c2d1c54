//go:build linux

package smtp_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"github.com/whorl-go/whorl/smtp"
)

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// The best mechanism that is offered is used, and when it fails no other one is.
func TestMechanisms(t *testing.T) {
	token := func(context.Context) (string, error) { return "tok", nil }
	for _, test := range []struct {
		name, offered string
		auth          []smtp.Mechanism
		play          func(s *script)
		want          string // in the error
	}{
		{"PLAIN before LOGIN", "LOGIN PLAIN", smtp.Password("me", "secret"), func(s *script) {
			s.ask("AUTH PLAIN "+encoded("\x00me\x00secret"), "235 in\r\n")
		}, ""},
		{"LOGIN", "LOGIN XYZ", smtp.Password("me", "secret"), func(s *script) {
			s.ask("AUTH LOGIN", "334 "+encoded("Benutzer:")+"\r\n")
			s.ask(encoded("me"), "334 "+encoded("Kennwort:")+"\r\n")
			s.ask(encoded("secret"), "235 in\r\n")
		}, ""},
		{"CRAM-MD5, RFC 2195", "PLAIN CRAM-MD5", smtp.Password("tim", "tanstaaftanstaaf"),
			func(s *script) {
				s.ask("AUTH CRAM-MD5",
					"334 "+encoded("<1896.697170952@postoffice.reston.mci.net>")+"\r\n")
				s.ask(encoded("tim b913a602c7eda7a495b4e6e7334d3890"), "235 in\r\n")
			}, ""},
		{"no other one after a refusal", "PLAIN CRAM-MD5", smtp.Password("me", "secret"),
			func(s *script) {
				s.ask("AUTH CRAM-MD5", "535 5.7.8 no\r\n")
				s.hear("QUIT")
			}, `AUTH CRAM-MD5: refused with 535 5.7.8 "no"`},
		{"none of ours", "GSSAPI NTLM", smtp.Password("me", "secret"),
			func(s *script) { s.hear("QUIT") }, "GSSAPI NTLM"},
		{"XOAUTH2", "PLAIN XOAUTH2", smtp.Bearer("me", token), func(s *script) {
			s.ask("AUTH XOAUTH2 "+encoded("user=me\x01auth=Bearer tok\x01\x01"), "235 in\r\n")
		}, ""},
		{"OAUTHBEARER that is refused", "XOAUTH2 OAUTHBEARER", smtp.Bearer("m,e", token),
			func(s *script) {
				s.ask("AUTH OAUTHBEARER "+encoded("n,a=m=2Ce,\x01auth=Bearer tok\x01\x01"),
					"334 "+encoded(`{"status":"invalid_token"}`)+"\r\n")
				s.ask(encoded("\x01"), "535 no\r\n")
			}, "AUTH OAUTHBEARER: refused with 535"},
		{"OAUTHBEARER before XOAUTH2", "XOAUTH2 OAUTHBEARER PLAIN", smtp.Bearer("me", token),
			func(s *script) {
				s.ask("AUTH OAUTHBEARER "+encoded("n,a=me,\x01auth=Bearer tok\x01\x01"),
					"235 in\r\n")
			}, ""},
		{"XOAUTH2 that is refused", "XOAUTH2 PLAIN LOGIN", smtp.Bearer("me", token),
			func(s *script) {
				s.ask("AUTH XOAUTH2 "+encoded("user=me\x01auth=Bearer tok\x01\x01"),
					"334 "+encoded(`{"status":"401"}`)+"\r\n")
				s.ask("", "535 5.7.8 no\r\n")
				s.hear("QUIT")
			}, "AUTH XOAUTH2: refused with 535"},
		{"no password after a token, whatever is offered", "PLAIN XOAUTH2",
			append(smtp.Bearer("me", token), smtp.Password("me", "secret")...),
			func(s *script) {
				s.ask("AUTH XOAUTH2 "+encoded("user=me\x01auth=Bearer tok\x01\x01"), "535 no\r\n")
				s.hear("QUIT")
			}, "AUTH XOAUTH2: refused with 535"},
		{"EXTERNAL for somebody", "PLAIN EXTERNAL", smtp.External("me"), func(s *script) {
			s.ask("AUTH EXTERNAL "+encoded("me"), "235 in\r\n")
		}, ""},
		{"LOGIN that is refused", "LOGIN", smtp.Password("me", "secret"), func(s *script) {
			s.ask("AUTH LOGIN", "334 "+encoded("Username:")+"\r\n")
			s.ask(encoded("me"), "334 "+encoded("Password:")+"\r\n")
			s.ask(encoded("secret"), "535 5.7.8 no\r\n")
			s.hear("QUIT")
		}, "AUTH LOGIN: refused with 535"},
		{"LOGIN that goes on asking", "LOGIN", smtp.Password("me", "secret"), func(s *script) {
			s.ask("AUTH LOGIN", "334 "+encoded("Username:")+"\r\n")
			s.ask(encoded("me"), "334 "+encoded("Password:")+"\r\n")
			s.ask(encoded("secret"), "334 "+encoded("And your card's number:")+"\r\n")
			s.ask("*", "501 well\r\n")
		}, "one challenge too many"},
		{"EXTERNAL", "EXTERNAL", smtp.External(""),
			func(s *script) { s.ask("AUTH EXTERNAL =", "235 in\r\n") }, ""},
		{"NUL in a password", "PLAIN", smtp.Password("me", "a\x00b"), func(s *script) {}, "NUL"},
		{"a token that isn't to be had", "XOAUTH2",
			smtp.Bearer("me", func(context.Context) (string, error) {
				return "",
					errors.New("no token")
			}),
			func(s *script) {}, "no token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.hasty = true
					s.helloTLS("AUTH " + test.offered)
					test.play(s)
					s.rest()
				})
				config := secured()
				config.Auth = test.auth
				c, err := smtp.Dial(ctx, address, config)
				if err == nil {
					c.Close()
				}
				if test.want == "" {
					check(t, err)
				} else if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error is %v, want %q", err, test.want)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("%q has the password", err)
				}
			})
		})
	}
}

// scramServer holds a server's side of an exchange. binding is what it takes for the connection's.
func scramServer(s *script, mechanism string, hash scram.HashGeneratorFcn,
	binding func(*tls.ConnectionState) (scram.ChannelBinding, error)) error {
	user, err := hash.NewClient("me", "secret", "")
	s.ok(err)
	factors := scram.KeyFactors{Salt: "salt and pepper!", Iters: 4096}
	credentials, err := user.GetStoredCredentialsWithError(factors)
	s.ok(err)
	server, err := hash.NewServer(func(string) (scram.StoredCredentials,
		error) {
		return credentials, nil
	})
	s.ok(err)
	conversation := server.NewConversation()
	if binding != nil {
		state := s.Conn.(*tls.Conn).ConnectionState()
		cb, err := binding(&state)
		s.ok(err)
		conversation = server.NewConversationWithChannelBinding(cb)
	}
	command, initial, _ := strings.Cut(strings.TrimPrefix(s.line(), "AUTH "), " ")
	if command != mechanism {
		return errors.New("AUTH " + command)
	}
	for {
		message, err := base64.StdEncoding.DecodeString(initial)
		s.ok(err)
		answer, err := conversation.Step(string(message))
		if err != nil {
			s.say("535 5.7.8 no\r\n")
			return err
		}
		s.say("334 " + encoded(answer) + "\r\n")
		initial = s.line()
		if conversation.Done() {
			s.say("235 in\r\n")
			return nil
		}
	}
}

func exporter(state *tls.ConnectionState) (scram.ChannelBinding, error) {
	return scram.NewTLSExporterBinding(state)
}

// endPoint is the binding of a server, which knows its own certificate.
func endPoint(*tls.ConnectionState) (scram.ChannelBinding, error) {
	return scram.NewTLSServerEndpointBinding(
		&tls.ConnectionState{PeerCertificates: peerCertificates()})
}

func TestSCRAM(t *testing.T) {
	for _, test := range []struct {
		name, offered, mechanism string
		hash                     scram.HashGeneratorFcn
		binding                  func(*tls.ConnectionState) (scram.ChannelBinding, error)
		version                  uint16
		ok                       bool
	}{
		{"SHA-256-PLUS with tls-exporter", "PLAIN SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
			"SCRAM-SHA-256-PLUS", scram.SHA256, exporter, tls.VersionTLS13, true},
		{"SHA-256-PLUS with tls-server-end-point", "SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
			"SCRAM-SHA-256-PLUS", scram.SHA256, endPoint, tls.VersionTLS12, true},
		{"SHA-1-PLUS", "SCRAM-SHA-256 SCRAM-SHA-1-PLUS", "SCRAM-SHA-1-PLUS", scram.SHA1, exporter,
			tls.VersionTLS13, true},
		{"SHA-256", "PLAIN SCRAM-SHA-1 SCRAM-SHA-256", "SCRAM-SHA-256", scram.SHA256, nil,
			tls.VersionTLS13, true},
		{"SHA-1", "CRAM-MD5 SCRAM-SHA-1", "SCRAM-SHA-1", scram.SHA1, nil, tls.VersionTLS13, true},
		{"A1 the binding of another connection", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256-PLUS",
			scram.SHA256, func(*tls.ConnectionState) (scram.ChannelBinding, error) {
				return scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter,
					Data: make([]byte, 32)}, nil
			}, tls.VersionTLS13, false},
		{"PLUS was struck from the offers", "SCRAM-SHA-256", "SCRAM-SHA-256", scram.SHA256,
			exporter, tls.VersionTLS13, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				result := make(chan error, 1)
				address := serve(t, func(s *script) {
					s.hasty = true
					s.helloTLS("AUTH " + test.offered)
					result <- scramServer(s, test.mechanism, test.hash, test.binding)
					s.rest()
				})
				config := secured()
				config.Auth = smtp.Password("me", "secret")
				config.Client.TLS.MaxVersion = test.version
				c, err := smtp.Dial(ctx, address, config)
				if err == nil {
					c.Close()
				}
				if (err == nil) != test.ok {
					t.Errorf("client: %v", err)
				}
				if err := <-result; (err == nil) != test.ok {
					t.Errorf("server: %v", err)
				}
			})
		})
	}
}

// A server that lets us in without having shown that it knows the password, or that would have us
// compute for hours, gets nothing.
func TestSCRAMServersThatCheat(t *testing.T) {
	for name, play := range map[string]func(s *script, nonce string){
		"in at once": func(s *script, _ string) { s.say("235 in\r\n") },
		"in without proof": func(s *script, nonce string) {
			s.say("334 " + encoded("r="+nonce+"x,s="+encoded("salt")+",i=4096") + "\r\n")
			s.line()
			s.say("235 in\r\n")
		},
		"a wrong proof": func(s *script, nonce string) {
			s.say("334 " + encoded("r="+nonce+"x,s="+encoded("salt")+",i=4096") + "\r\n")
			s.line()
			s.say("334 " + encoded("v="+encoded("no")) + "\r\n")
			s.hear("*")
			s.say("501 well\r\n")
		},
		"work for hours": func(s *script, nonce string) {
			s.say("334 " + encoded("r="+nonce+"x,s="+encoded("salt")+",i=2000000000") + "\r\n")
			s.hear("*")
			s.say("501 well\r\n")
		},
		"a nonce of its own": func(s *script, nonce string) {
			s.say("334 " + encoded("r=abc,s="+encoded("salt")+",i=4096") + "\r\n")
			s.hear("*")
			s.say("235 in nevertheless\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					s.hasty = true
					s.helloTLS("AUTH SCRAM-SHA-256 PLAIN")
					_, initial, _ := strings.Cut(strings.TrimPrefix(s.line(), "AUTH "), " ")
					first, err := base64.StdEncoding.DecodeString(initial)
					s.ok(err)
					_, nonce, _ := strings.Cut(string(first), ",r=")
					play(s, nonce)
					if rest := s.rest(); strings.Contains(rest, "MAIL") ||
						strings.Contains(rest, "AUTH") {
						t.Errorf("it said %q", rest)
					}
				})
				config := secured()
				config.Auth = smtp.Password("me", "secret")
				if c, err := smtp.Dial(ctx, address, config); err == nil {
					c.Close()
					t.Error("the session has begun")
				}
			})
		})
	}
}
