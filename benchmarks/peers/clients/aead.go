//go:build linux

package clients

import (
	"crypto/aes"
	"crypto/cipher"
	"runtime"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

// aeadPeer is what TLS can't be faster than: the cipher of a record, and nothing else.
var aeadPeer = Peer{
	Name: "aes-gcm",
	About: "no client: AES-128-GCM alone, Seal for sending and Open for receiving, as fast as " +
		"this machine does it",
	TLS: []Work{Send, Receive},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		a := &aead{netClient: newNetClient(c, counters, 0)}
		return a, nil
	},
}

// aead works in goroutines as netClient does, one for each CPU.
type aead struct{ *netClient }

// Open is called once, as there are few of what would be connections.
func (a *aead) Open(int) error {
	for range runtime.GOMAXPROCS(0) {
		step, err := a.step()
		if err != nil {
			return err
		}
		go a.turns(a.workers, a.begin, step)
		a.workers++
	}
	return nil
}

func (a *aead) step() (func() (int, error), error) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, nonce := make([]byte, a.config.Size), make([]byte, gcm.NonceSize())
	header := make([]byte, 5) // A record's header is authenticated with it.
	sealed := gcm.Seal(nil, nonce, plain, header)
	if a.config.Work == Send {
		return func() (int, error) {
			sealed = gcm.Seal(sealed[:0], nonce, plain, header)
			return 1, nil
		}, nil
	}
	return func() (int, error) {
		_, err := gcm.Open(plain[:0], nonce, sealed, header)
		return 1, err
	}, nil
}
