//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

type callbackKey struct{}

// Callbacks of the configuration find the values of the context that SSLHandshake was given, and
// may wait as coroutines do.
func TestCallbacksHaveTheContext(t *testing.T) {
	for _, by := range []string{"coroutine", "goroutine"} {
		t.Run(by, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				ctx = context.WithValue(ctx, callbackKey{}, "a value")
				forClient, forServer := configs(0)
				cert := forServer.Certificates[0]
				var mu sync.Mutex
				var called []string
				calls := func(who string, ctx context.Context) error {
					mu.Lock()
					called = append(called, fmt.Sprint(who, ": ", ctx.Value(callbackKey{})))
					mu.Unlock()
					return runtime.Yield(ctx)
				}
				forServer.ClientAuth = tls.RequireAnyClientCert
				forServer.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
					return &cert, calls("server", hello.Context())
				}
				forServer.Certificates = nil
				forClient.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &cert, calls("client", request.Context())
				}
				client, server := connected(ctx, t, "pair")
				defer client.Close()
				defer server.Close()
				var ends sync.WaitGroup
				shake := func(s *socket.Socket, config *tls.Config) {
					if err := s.SSLHandshake(ctx, config); err != nil {
						t.Error(err)
					}
				}
				if by == "goroutine" {
					ends.Go(func() { shake(server, forServer) })
					ends.Go(func() { shake(client, forClient) })
					await(ctx, ends.Wait)
				} else {
					co, _ := runtime.Go(ctx, func(context.Context) { shake(server, forServer) })
					shake(client, forClient)
					co.Join(ctx)
				}
				if len(called) != 2 || called[0] != "server: a value" || called[1] != "client: a value" {
					t.Errorf("%q", called)
				}
			})
		})
	}
}

func TestCallbackThatRefuses(t *testing.T) {
	refused := errors.New("refused by the callback")
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, wire net.Conn, config *tls.Config) {
		shakeWith(peers, wire, config)
		config.VerifyConnection = func(tls.ConnectionState) error { return refused }
		if err := s.SSLHandshake(ctx, config); !errors.Is(err, refused) {
			t.Error(err)
		}
		closedForGood(ctx, t, s)
	})
}

// shakeWith plays the other role than that of config, until the connection ends.
func shakeWith(peers *sync.WaitGroup, wire net.Conn, config *tls.Config) {
	forClient, forServer := configs(0)
	peers.Go(func() {
		defer wire.Close()
		peer := tls.Server(wire, forServer)
		if config.ServerName == "" {
			peer = tls.Client(wire, forClient)
		}
		peer.Handshake()
		io.Copy(io.Discard, wire)
	})
}

// A callback that panics, or ends its goroutine, ends the handshake and the connection, and neither
// the loop nor who waits for the handshake. It is logged with its stack and handed to the panic
// handler, once.
func TestCallbackThatBreaks(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken func()
		value  any
	}{
		{"panic", breakByPanic, "broken callback"},
		{"Goexit", breakByGoexit, runtime.ErrGoexit},
	} {
		for _, role := range []string{"client", "server"} {
			for _, deep := range []bool{false, true} {
				t.Run(fmt.Sprint(c.name, " ", role, " deep ", deep), func(t *testing.T) {
					core, entries := observer.New(zapcore.WarnLevel)
					var handled []*runtime.PanicError
					handler := func(co *runtime.Coroutine, err *runtime.PanicError) {
						if co == nil {
							t.Error("no coroutine")
						}
						handled = append(handled, err)
					}
					withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
						forClient, forServer := configs(0)
						connect, config := dialed, forClient
						if role == "server" {
							connect, config = accepted, forServer
						}
						s, wire := connect(ctx, t, "tcp")
						shakeWith(peers, wire, config)
						config.VerifyConnection = func(tls.ConnectionState) error { c.broken(); return nil }
						err := runtime.ErrGoexit // what it is where the coroutine ends with the callback
						shake := func(ctx context.Context) { err = s.SSLHandshake(ctx, config) }
						if deep {
							co, _ := sched.GoDeep(ctx, shake)
							sched.Join(ctx, co)
						} else {
							shake(ctx)
						}
						panicked, ok := errors.AsType[*runtime.PanicError](err)
						if ok && panicked.Value != c.value || !ok && (c.name == "panic" || !deep || !errors.Is(err, runtime.ErrGoexit)) {
							t.Errorf("%v", err)
						}
						closedForGood(ctx, t, s)
						if err := runtime.Yield(ctx); err != nil {
							t.Error(err)
						}
					}, runtime.WithLogger(zap.New(core)), runtime.WithPanicHandler(handler))
					if len(handled) != 1 || handled[0].Value != c.value || !strings.Contains(string(handled[0].Stack), "breakBy") {
						t.Errorf("the panic handler got %v", handled)
					}
					logged := entries.FilterMessage("panic in a coroutine").All()
					if len(logged) != 1 || !strings.Contains(fmt.Sprint(logged[0].ContextMap()["stack"]), "breakBy") {
						t.Errorf("the log has %v", entries.All())
					}
				})
			}
		}
	}
}

func breakByPanic()  { panic("broken callback") }
func breakByGoexit() { goruntime.Goexit() }

// A client that doesn't know whom to expect is told so.
func TestHandshakeWithoutServerName(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, wire net.Conn, config *tls.Config) {
		defer wire.Close()
		if config.ServerName == "" {
			return // servers have none
		}
		err := s.SSLHandshake(ctx, &tls.Config{})
		if e, ok := errors.AsType[*explain.HandshakeError](err); !ok || e.Reason != explain.ReasonNoServerName {
			t.Errorf("%v", err)
		}
		closedForGood(ctx, t, s)
	})
}

// In a plain goroutine a panic goes up to whoever recovers it, as everywhere in Go; the connection
// is closed nevertheless.
func TestCallbackThatPanicsInAGoroutine(t *testing.T) {
	eachRole(t, "tcp", func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, wire net.Conn, config *tls.Config) {
		shakeWith(peers, wire, config)
		config.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { panic("broken callback") }
		config.VerifyConnection = func(tls.ConnectionState) error { panic("broken callback") }
		await(ctx, func() {
			defer func() {
				if value := recover(); value != "broken callback" {
					t.Errorf("recovered %v", value)
				}
			}()
			t.Errorf("SSLHandshake has returned %v", s.SSLHandshake(ctx, config))
		})
		closedForGood(ctx, t, s)
	})
}
