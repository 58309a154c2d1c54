package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// maxIterations is how often a server may have a password hashed: half a second's work. Servers
// ask for 4,096 to some 100,000.
const maxIterations = 1_000_000

// maxLogins is after how many logins the keys are forgotten that were derived of the password. A
// server that always has the same salt costs one derivation in so many, and one that never has
// can't make us keep more.
const maxLogins = 256

// scrams returns the mechanisms of RFC 5802 and RFC 7677. Their logins share the keys.
func scrams(user, password string) (mechanisms []Mechanism) {
	sha256 := &keys{hash: scram.SHA256, user: user, password: password}
	sha1 := &keys{hash: scram.SHA1, user: user, password: password}
	for _, m := range []struct {
		name string
		plus bool
		keys *keys
	}{
		{"SCRAM-SHA-256-PLUS", true, sha256}, {"SCRAM-SHA-1-PLUS", true, sha1},
		{"SCRAM-SHA-256", false, sha256}, {"SCRAM-SHA-1", false, sha1},
	} {
		start := func(_ context.Context, s Session) (sasl.Client, error) {
			client, err := m.keys.client()
			if err != nil {
				return nil, err
			}
			if m.plus {
				binding, err := channelBinding(&s.TLS)
				if err != nil {
					return nil, err
				}
				return &scramClient{
					name:         m.name,
					conversation: client.NewConversationWithChannelBinding(binding),
				}, nil
			}
			conversation := client.NewConversation
			if !strings.Contains(s.Offered, "-PLUS") {
				// Whoever has struck it from the offers is found out by this.
				conversation = client.NewConversationAdvertisingChannelBinding
			}
			return &scramClient{name: m.name, conversation: conversation()}, nil
		}
		mechanisms = append(mechanisms, Mechanism{m.name, start})
	}
	return mechanisms
}

// channelBinding is what ties a login to a TLS connection: tls-exporter of RFC 9266 with TLS 1.3,
// before that tls-server-end-point of RFC 5929.
func channelBinding(state *tls.ConnectionState) (scram.ChannelBinding, error) {
	if state.Version >= tls.VersionTLS13 {
		return scram.NewTLSExporterBinding(state)
	}
	return scram.NewTLSServerEndpointBinding(state)
}

// keys are those of one user, for one hash.
type keys struct {
	hash           scram.HashGeneratorFcn
	user, password string

	mu     sync.Mutex // guards what follows
	shared *scram.Client
	logins int
}

func (k *keys) client() (*scram.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.shared == nil || k.logins >= maxLogins {
		client, err := k.hash.NewClient(k.user, k.password, "")
		if err != nil {
			return nil, errors.New("name or password can't be prepared for SCRAM, RFC 4013")
		}
		k.shared, k.logins = client, 0
	}
	k.logins++
	return k.shared, nil
}

// scramClient is one login.
type scramClient struct {
	name         string
	conversation *scram.ClientConversation
}

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.conversation.Step("")
	return c.name, []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if err := checkIterations(string(challenge)); err != nil {
		return nil, err
	}
	response, err := c.conversation.Step(string(challenge))
	return []byte(response), err
}

// Proven reports whether the server has proven that it knows the password.
func (c *scramClient) Proven() bool { return c.conversation.Valid() }

// checkIterations refuses a challenge that would keep us busy.
func checkIterations(challenge string) error {
	for field := range strings.SplitSeq(challenge, ",") {
		number, ok := strings.CutPrefix(field, "i=")
		if n, err := strconv.Atoi(number); ok && (err != nil || n > maxIterations) {
			return fmt.Errorf("the server wants the password hashed %.20q times", number)
		}
	}
	return nil
}
