//go:build linux && interop

package socket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// OpenSSL asks for new keys (KeyUpdate, which crypto/tls never does on its own account) while both
// sides send. Run with -tags interop where there is openssl.
func TestKeyUpdatesOfOpenSSL(t *testing.T) {
	_, forServer := configs(tls.VersionTLS13)
	chain, key := pemFiles(t, forServer.Certificates[0])
	for _, kind := range []string{
		"client TLS_AES_128_GCM_SHA256", "client TLS_AES_256_GCM_SHA384", "client TLS_CHACHA20_POLY1305_SHA256",
		"server TLS_AES_128_GCM_SHA256", "server TLS_AES_256_GCM_SHA384", "server TLS_CHACHA20_POLY1305_SHA256",
	} {
		t.Run(kind, func(t *testing.T) {
			role, suite, _ := strings.Cut(kind, " ")
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				forClient, forServer := configs(tls.VersionTLS13)
				config := forClient
				l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				address := l.LocalAddr().String()
				arguments := []string{"s_client", "-connect", address, "-servername", "mail.test"}
				if role == "client" {
					l.Abort() // its port is openssl's now
					arguments = []string{"s_server", "-accept", address, "-cert", chain, "-key", key}
				} else {
					defer l.Abort()
				}
				arguments = append(arguments, "-ciphersuites", suite)
				openssl := exec.Command("stdbuf", append([]string{"-oL", "openssl"}, arguments...)...) // lines as they come
				stdin, _ := openssl.StdinPipe()
				stdout, _ := openssl.StdoutPipe()
				openssl.Stderr = openssl.Stdout
				if err := openssl.Start(); err != nil {
					t.Fatal(err)
				}
				defer openssl.Wait()
				defer openssl.Process.Kill()
				said := make(chan string, 1000)
				peers.Go(func() {
					defer close(said)
					for lines := bufio.NewScanner(stdout); lines.Scan(); {
						said <- lines.Text()
					}
				})
				hears := func(want string) {
					await(ctx, func() {
						for line := range said {
							if strings.Contains(line, want) {
								return
							}
						}
						t.Errorf("openssl has ended without saying %q", want)
					})
				}
				var s *socket.Socket
				if role == "client" {
					hears("ACCEPT")
					s, _ = socket.New("tcp")
					if err := s.Connect(ctx, address); err != nil {
						t.Fatal(err)
					}
				} else {
					config = forServer
					if s, err = l.Accept(ctx); err != nil {
						t.Fatal(err)
					}
				}
				defer s.Close()
				if err := s.SSLHandshake(ctx, config); err != nil {
					t.Fatal(err)
				}
				if os.Getenv("WHORL_TEST_COMPACT_TLS") != "" {
					// From here on our own records are at the test.
					until(ctx, func() bool { now, _ := socket.Compact(); return now == 1 })
				}
				if state, _ := s.ConnectionState(); tls.CipherSuiteName(state.CipherSuite) != suite {
					t.Errorf("the suite is %s", tls.CipherSuiteName(state.CipherSuite))
				}
				for i := range 20 {
					io.WriteString(stdin, "K\n") // asks us to change our keys, too
					runtime.Yield(ctx)
					await(ctx, func() { hearsUpdate(said) })
					fmt.Fprintf(stdin, "from openssl %d\n", i)
					want := fmt.Sprintf("from openssl %d\n", i)
					if line, err := s.RecvLine(ctx, 100); string(line) != want || err != nil {
						t.Fatalf("%q, %v", line, err)
					}
					if _, err := s.SendAll(ctx, fmt.Appendf(nil, "from whorl %d\n", i)); err != nil {
						t.Fatal(err)
					}
					hears(fmt.Sprintf("from whorl %d", i))
				}
			})
		})
	}
}

// hearsUpdate waits until openssl says that it changes its keys: commands must not come in one read
// with what is behind them.
func hearsUpdate(said chan string) {
	for line := range said {
		if strings.Contains(line, "KEYUPDATE") || strings.Contains(line, "SSL_do_handshake") {
			return
		}
	}
}

// pemFiles writes a certificate and its key as openssl reads them.
func pemFiles(t *testing.T, cert tls.Certificate) (chain, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain, key = filepath.Join(t.TempDir(), "chain.pem"), filepath.Join(t.TempDir(), "key.pem")
	var certs []byte
	for _, c := range cert.Certificate {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	if err := os.WriteFile(chain, certs, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return chain, key
}
