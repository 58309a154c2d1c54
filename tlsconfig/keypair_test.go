package tlsconfig

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

func TestKeysOfOtherKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range [][]byte{x509.MarshalPKCS1PrivateKey(rsaKey), pkcs8} {
		// The type in the header is wrong for both, as it often is.
		p := pemPair{key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})}
		key, err := p.parseKey()
		if err != nil || key == nil {
			t.Errorf("got %v, %v", key, err)
		}
	}
}
