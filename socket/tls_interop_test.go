//go:build linux && interop

package socket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// openssl is s_server or s_client of OpenSSL, run with -tags interop.
type openssl struct {
	t       *testing.T
	command *exec.Cmd
	stdin   io.Writer
	said    chan string
}

// startOpenSSL runs openssl until end is called.
func startOpenSSL(t *testing.T, peers *sync.WaitGroup, arguments ...string) *openssl {
	t.Helper()
	o := &openssl{t: t, said: make(chan string, 1000)}
	o.command = exec.Command(
		"stdbuf",
		append([]string{"-oL", "openssl"}, arguments...)...) // lines as they come
	o.stdin, _ = o.command.StdinPipe()
	stdout, _ := o.command.StdoutPipe()
	o.command.Stderr = o.command.Stdout
	if err := o.command.Start(); err != nil {
		t.Fatal(err)
	}
	peers.Go(func() {
		defer close(o.said)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			o.said <- lines.Text()
		}
	})
	return o
}

func (o *openssl) end() {
	o.command.Process.Kill()
	o.command.Wait()
}

// says tells it what it is to send, or a command of one letter.
func (o *openssl) says(line string) { io.WriteString(o.stdin, line+"\n") }

// hears waits for what it tells, one of several things.
func (o *openssl) hears(ctx context.Context, wanted ...string) {
	o.t.Helper()
	await(ctx, func() {
		for line := range o.said {
			for _, want := range wanted {
				if strings.Contains(line, want) {
					return
				}
			}
		}
		o.t.Errorf("openssl has ended without saying %q", wanted)
	})
}

// eachOfOpenSSL runs a test in both roles with all suites, or with TLS 1.2.
func eachOfOpenSSL(
	t *testing.T,
	kinds []string,
	test func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role string, args []string),
) {
	for _, role := range []string{"client", "server"} {
		for _, kind := range kinds {
			arguments := []string{"-ciphersuites", kind}
			if kind == "-tls1_2" {
				arguments = []string{kind}
			}
			t.Run(role+" "+kind, func(t *testing.T) {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					test(ctx, t, peers, role, arguments)
				})
			})
		}
	}
}

var allSuites = []string{
	"TLS_AES_128_GCM_SHA256",
	"TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256",
}

// openSSLs are openssl in the role that a Socket hasn't, and how to connect one to it.
type openSSLs struct {
	*openssl
	role      string
	peers     *sync.WaitGroup
	listener  *socket.Socket // of the role server
	address   string
	arguments []string // of s_client
}

// newOpenSSL starts what it can before there is a connection.
func newOpenSSL(
	ctx context.Context,
	t *testing.T,
	peers *sync.WaitGroup,
	role string,
	arguments []string,
) *openSSLs {
	t.Helper()
	l, err := socket.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &openSSLs{role: role, peers: peers, address: l.LocalAddr().String(), arguments: arguments}
	if role == "server" {
		o.listener = l
		return o
	}
	l.Abort() // its port is openssl's now
	_, forServer := configs(tls.VersionTLS13)
	chain, key := pemFiles(t, forServer.Certificates[0])
	arguments = append(
		[]string{"s_server", "-accept", o.address, "-cert", chain, "-key", key},
		arguments...)
	o.openssl = startOpenSSL(t, peers, arguments...)
	o.hears(ctx, "ACCEPT")
	return o
}

// connect makes a connection, and its handshake with a config for the Socket's role, with
// arguments for s_client.
func (o *openSSLs) connect(
	ctx context.Context, t *testing.T, config *tls.Config, arguments ...string,
) *socket.Socket {
	t.Helper()
	var s *socket.Socket
	var err error
	if o.role == "client" {
		if s, err = socket.New("tcp"); err == nil {
			err = s.Connect(ctx, o.address)
		}
	} else {
		if o.openssl != nil {
			o.openssl.end()
		}
		arguments = append(arguments, o.arguments...)
		o.openssl = startOpenSSL(t, o.peers,
			append([]string{"s_client", "-connect", o.address, "-servername", "mail.test"},
				arguments...)...)
		s, err = o.listener.Accept(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The configuration is one that tells secrets already; this is only for when.
	if compact.Enabled(config) {
		mayCompact(s, nil)
	}
	if err := s.SSLHandshake(ctx, config); err != nil {
		t.Fatal(err)
	}
	return s
}

func (o *openSSLs) close() {
	o.end()
	if o.listener != nil {
		o.listener.Abort()
	}
}

// config is that of a Socket's role; compact says that the connection may become so.
func (o *openSSLs) config(mayBeCompact bool) *tls.Config {
	config, forServer := configs(0)
	if o.role == "server" {
		config = forServer
	}
	if mayBeCompact {
		config = compact.Config(config)
	}
	return config
}

// trips sends lines both ways.
func (o *openSSLs) trips(
	ctx context.Context,
	t *testing.T,
	s *socket.Socket,
	n int,
	before func(i int),
) {
	t.Helper()
	for i := range n {
		if before != nil {
			before(i)
		}
		want := fmt.Sprintf("from openssl %d", i)
		o.says(want)
		if line, err := s.RecvLine(ctx, 100); string(line) != want+"\n" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		if _, err := s.SendAll(ctx, fmt.Appendf(nil, "from whorl %d\n", i)); err != nil {
			t.Fatal(err)
		}
		o.hears(ctx, fmt.Sprintf("from whorl %d", i))
	}
}

// OpenSSL changes its keys, and asks for ours (KeyUpdate, which crypto/tls never does on its own
// account), while both sides send: with crypto/tls, and on a compact connection.
func TestKeyUpdatesOfOpenSSL(t *testing.T) {
	for _, mayBeCompact := range []bool{false, true} {
		eachOfOpenSSL(
			t,
			allSuites,
			func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role string, args []string) {
				o := newOpenSSL(ctx, t, peers, role, args)
				before := compactCount()
				s := o.connect(ctx, t, o.config(mayBeCompact))
				defer o.close()
				defer s.Close()
				if mayBeCompact || os.Getenv("WHORL_TEST_COMPACT_TLS") != "" {
					until(ctx, func() bool { return compactCount() == before+1 })
				}
				if state, _ := s.ConnectionState(); tls.CipherSuiteName(
					state.CipherSuite,
				) != args[1] {
					t.Errorf("the suite is %s", tls.CipherSuiteName(state.CipherSuite))
				}
				o.trips(ctx, t, s, 20, func(i int) {
					o.says([]string{"K", "k"}[i%2]) // the first asks us to change our keys, too
					runtime.Yield(ctx)
					// Commands must not come in one read with what is behind them.
					o.hears(ctx, "KEYUPDATE", "SSL_do_handshake")
				})
			},
		)
	}
}

// The ends of a compact connection with OpenSSL: its close_notify, ours, and none.
func TestEndsWithOpenSSL(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, t *testing.T, o *openSSLs, s *socket.Socket) error{
		"its close_notify": func(_ context.Context, _ *testing.T, o *openSSLs, _ *socket.Socket) error {
			o.says("Q")
			return io.EOF
		},
		"ours": func(ctx context.Context, t *testing.T, o *openSSLs, s *socket.Socket) error {
			if err := s.Shutdown(ctx, socket.ShutdownWrite); err != nil {
				t.Error(err)
			}
			return io.EOF // it answers
		},
		"truncated": func(_ context.Context, _ *testing.T, o *openSSLs, _ *socket.Socket) error {
			o.command.Process.Kill()
			return socket.ErrTruncated
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachOfOpenSSL(
				t,
				allSuites,
				func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role string, args []string) {
					o := newOpenSSL(ctx, t, peers, role, args)
					before := compactCount()
					s := o.connect(ctx, t, o.config(true))
					defer o.close()
					defer s.Close()
					o.trips(ctx, t, s, 1, nil)
					until(ctx, func() bool { return compactCount() == before+1 })
					want := end(ctx, t, o, s)
					if n, err := s.RecvAll(ctx, make([]byte, 1)); n != 0 || !errors.Is(err, want) {
						t.Errorf("%d, %v; want %v", n, err, want)
					}
					if _, err := s.Recv(ctx, make([]byte, 1)); !errors.Is(err, want) {
						t.Errorf("again: %v", err)
					}
				},
			)
		})
	}
}

// A session whose first connection was compact is resumed, by a compact one.
func TestResumptionWithOpenSSL(t *testing.T) {
	eachOfOpenSSL(
		t,
		allSuites,
		func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role string, args []string) {
			o := newOpenSSL(ctx, t, peers, role, args)
			defer func() { o.close() }()
			config := o.config(true)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			session := filepath.Join(t.TempDir(), "session")
			for i := range 3 {
				files := []string{"-sess_out", session}
				if i > 0 {
					files = append(files, "-sess_in", session)
				}
				before := compactCount()
				s := o.connect(ctx, t, config, files...)
				o.trips(ctx, t, s, 1, nil)
				until(ctx, func() bool { return compactCount() == before+1 })
				o.trips(ctx, t, s, 2, nil)
				if cs, _ := s.ConnectionState(); cs.DidResume != (i > 0) {
					t.Errorf("connection %d: resumed is %v", i, cs.DidResume)
				}
				s.Close()
				if role == "client" {
					o.hears(ctx, "CONNECTION CLOSED", "DONE")
				}
			}
		},
	)
}

// Tickets that come when the connection is compact are dropped, and all goes on.
func TestLateTicketsOfOpenSSL(t *testing.T) {
	for _, suite := range allSuites {
		t.Run(suite, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				o := newOpenSSL(ctx, t, peers, "client", []string{"-ciphersuites", suite})
				defer o.close()
				late := newHolding(t, peers, o.address)
				o.address = late.address
				before := compactCount()
				_, dropped := socket.Compact()
				s := o.connect(ctx, t, o.config(true))
				until(ctx, func() bool { return compactCount() == before+1 })
				close(late.release)
				o.trips(ctx, t, s, 3, nil)
				s.Close()
				if _, after := socket.Compact(); after != dropped+2 { // s_server sends two
					t.Errorf("%d tickets were dropped", after-dropped)
				}
			})
		})
	}
}

// holding passes one connection on, and holds what a server sends after the client's second flight.
type holding struct {
	address string
	release chan struct{}
}

func newHolding(t *testing.T, peers *sync.WaitGroup, to string) *holding {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holding{address: l.Addr().String(), release: make(chan struct{})}
	peers.Go(func() {
		defer l.Close()
		near, err := l.Accept()
		if err != nil {
			return
		}
		defer near.Close()
		far, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer far.Close()
		second := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() { // what the server sends
			buf := make([]byte, 64<<10)
			for {
				n, err := far.Read(buf)
				if err != nil {
					near.Close()
					return
				}
				select {
				case <-second:
					<-h.release
				default:
				}
				near.Write(buf[:n])
			}
		})
		both.Go(func() {
			buf := make([]byte, 64<<10)
			for i := 0; ; i++ {
				n, err := near.Read(buf)
				if err != nil {
					far.Close()
					return
				}
				if i == 1 {
					close(second)
				}
				far.Write(buf[:n])
			}
		})
		both.Wait()
	})
	return h
}

// TLS 1.2 stays with crypto/tls, which is counted.
func TestOldVersionOfOpenSSL(t *testing.T) {
	eachOfOpenSSL(
		t,
		[]string{"-tls1_2"},
		func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role string, args []string) {
			o := newOpenSSL(ctx, t, peers, role, args)
			before := socket.NotCompact()["version"]
			s := o.connect(ctx, t, o.config(true))
			defer o.close()
			defer s.Close()
			o.trips(ctx, t, s, 3, nil)
			if n := socket.NotCompact()["version"] - before; n != 1 || socket.PutToRest(s) {
				t.Errorf("%d stay", n)
			}
		},
	)
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
