// Package identity makes the certificate that all servers of a comparison show, and what their
// clients need to verify it.
package identity

import (
	"crypto/tls"
	"fmt"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Server is whom the certificate is for.
const Server = "server.test"

// Identity is a certificate for [Server], of a certificate authority of its own. CA, Chain and Key
// are PEM, as processes hand it to each other.
type Identity struct {
	CA, Chain, Key string      // PEM
	Client         *tls.Config // of clients in this process, that verify it
}

// New makes an Identity.
func New() (*Identity, error) {
	ca, err := devca.New("Whorl's benchmarks")
	if err != nil {
		return nil, err
	}
	pair, err := ca.Issue(Server)
	if err != nil {
		return nil, err
	}
	chain, key, err := devca.EncodePEM(pair)
	if err != nil {
		return nil, err
	}
	return &Identity{
		CA: string(ca.PEM()), Chain: string(chain), Key: string(key),
		Client: &tls.Config{RootCAs: ca.Pool(), ServerName: Server},
	}, nil
}

// ServerConfig returns the configuration of a server in another process, which was handed Chain and
// Key.
func ServerConfig(chain, key string) (*tls.Config, error) {
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}, nil
}
