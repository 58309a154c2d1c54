package smtp

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

// A Mechanism is a way to log in: a SASL mechanism, RFC 4422.
type Mechanism struct {
	// Name is what servers offer it by, in upper case.
	Name string

	// Start begins an exchange, on the loop. If the sasl.Client has a method Proven() bool, that
	// has to be true when the server says that all is well.
	Start func(ctx context.Context, session Session) (sasl.Client, error)
}

// A Session is what a [Mechanism] may have to know.
type Session struct {
	Address string // as it was dialled
	TLS     tls.ConnectionState
	Offered string // the mechanisms that the server offers, separated by spaces
}

// Password returns the mechanisms for a user with a password, the best ones first: SCRAM with
// SHA-256 and SHA-1, in which neither the password nor its like is sent and the server has to know
// it, too, bound to the TLS connection (-PLUS) where the server can; CRAM-MD5; PLAIN and LOGIN,
// which have nothing but TLS to protect the password. RFC 5802, 7677, 5929, 9266, 2195, 4616.
func Password(user, password string) []Mechanism {
	return append(scrams(user, password),
		Mechanism{"CRAM-MD5", start(user, password, func() sasl.Client {
			return &cramMD5{user, password}
		})},
		Mechanism{"PLAIN", start(user, password, func() sasl.Client {
			return sasl.NewPlainClient("", user, password)
		})},
		Mechanism{"LOGIN", start(user, password, func() sasl.Client {
			return &login{answers: []string{user, password}}
		})},
	)
}

// Bearer returns the mechanisms for a user with an OAuth 2.0 access token, which token is asked for
// at each login: OAUTHBEARER, RFC 7628, and XOAUTH2.
func Bearer(user string, token func(ctx context.Context) (string, error)) []Mechanism {
	mechanism := func(name, format, failed string) Mechanism {
		return Mechanism{name, func(ctx context.Context, _ Session) (sasl.Client, error) {
			secret, err := token(ctx)
			if err != nil {
				return nil, err
			}
			if err := plain(user, secret); err != nil {
				return nil, err
			}
			if name == "OAUTHBEARER" {
				user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
				return &bearer{name, fmt.Sprintf(format, user, secret), failed}, nil
			}
			return &bearer{name, fmt.Sprintf(format, user, secret), failed}, nil
		}}
	}
	return []Mechanism{
		mechanism("OAUTHBEARER", "n,a=%s,\x01auth=Bearer %s\x01\x01", "\x01"),
		mechanism("XOAUTH2", "user=%s\x01auth=Bearer %s\x01\x01", ""),
	}
}

// External returns the mechanism for a user whom the server knows by the client certificate of the
// TLS connection. An empty identity leaves it to the server who that is. RFC 4422, appendix A.
func External(identity string) []Mechanism {
	return []Mechanism{{"EXTERNAL", start(identity, "", func() sasl.Client {
		return sasl.NewExternalClient(identity)
	})}}
}

func start(
	user, secret string, exchange func() sasl.Client,
) func(context.Context, Session) (sasl.Client, error) {
	return func(context.Context, Session) (sasl.Client, error) {
		if err := plain(user, secret); err != nil {
			return nil, err
		}
		return exchange(), nil
	}
}

// plain refuses what would be something else in one of the mechanisms' messages.
func plain(words ...string) error {
	for _, word := range words {
		if strings.ContainsAny(word, "\x00\x01\r\n") {
			return fmt.Errorf("%w: CR, LF, NUL or SOH in credentials", ErrInvalid)
		}
	}
	return nil
}

var errChallenge = errors.New("one challenge too many")

// login is the mechanism LOGIN: the server asks for the user, then for the password, in words of
// its own.
type login struct{ answers []string }

func (*login) Start() (string, []byte, error) { return "LOGIN", nil, nil }

func (l *login) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, errChallenge
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}

// cramMD5 is the mechanism CRAM-MD5, RFC 2195.
type cramMD5 struct{ user, password string }

func (*cramMD5) Start() (string, []byte, error) { return "CRAM-MD5", nil, nil }

func (c *cramMD5) Next(challenge []byte) ([]byte, error) {
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	return []byte(c.user + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

// bearer is OAUTHBEARER or XOAUTH2. A challenge is the server's reason to refuse, in JSON; it
// refuses when that was acknowledged.
type bearer struct{ name, initial, acknowledge string }

func (b *bearer) Start() (string, []byte, error) { return b.name, []byte(b.initial), nil }
func (b *bearer) Next([]byte) ([]byte, error)    { return []byte(b.acknowledge), nil }
