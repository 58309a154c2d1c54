package websocket_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// The log has what nobody else is told: the wrong scheme on either port, and foreign pages.
func TestRefusalsAreLogged(t *testing.T) {
	leaktest.Guard(t)
	for name, c := range map[string]struct {
		network, scheme, origin string
		message, says           string
	}{
		"ws to wss": {"tls", "ws", "", "websocket: TLS handshake", "doesn't speak TLS"},
		"wss to ws": {"tcp", "wss", "", "websocket: request refused", "TLS, where there is none"},
		"Origin": {
			"tcp", "ws", "https://evil.test", "websocket: request refused",
			`"https://evil.test" is not allowed where the Host is "127.0.0.1:`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			core, log := observer.New(zapcore.WarnLevel)
			ctx := runtimetest.Start(t, runtime.WithLogger(zap.New(core))).Context()
			config := echoing()
			_, config.Server.TLS = certified()
			s := websocket.NewServer(config)
			l, err := s.Listen(ctx, c.network, "127.0.0.1:0")
			check(t, err)
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx) }()
			header := http.Header{}
			if c.origin != "" {
				header.Set("Origin", c.origin)
			}
			url := c.scheme + "://" + l.Addr().String()
			if conn, err := websocket.Dial(ctx, url, websocket.ClientConfig{Header: header}); err == nil {
				conn.Abort()
				t.Error("nobody has refused")
			}
			leaktest.Until(t, "there is a line in the log", func() bool { return log.Len() > 0 })
			check(t, s.Close())
			check(t, <-served)
			first := log.All()[0]
			fields := first.ContextMap()
			text := fmt.Sprint(fields["error"])
			if first.Message != c.message || !strings.Contains(text, c.says) {
				t.Errorf("%s: %s", first.Message, text)
			}
			if client := fmt.Sprint(fields["client"]); !strings.HasPrefix(client, "127.0.0.1:") {
				t.Errorf("the client is %s", client)
			}
		})
	}
}

// The log says why TLS handshakes fail, of a flood a part.
func TestFailedTLSHandshakesAreLogged(t *testing.T) {
	leaktest.Guard(t)
	core, log := observer.New(zapcore.WarnLevel)
	ctx := runtimetest.Start(t, runtime.WithLogger(zap.New(core))).Context()
	config := echoing()
	_, config.Server.TLS = certified()
	s := websocket.NewServer(config)
	l, err := s.Listen(ctx, "tls", "127.0.0.1:0")
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	const clients = 50
	for range clients {
		c, err := websocket.Dial(ctx, "wss://"+l.Addr().String(), websocket.ClientConfig{
			Client: client.Config{TLS: &tls.Config{RootCAs: x509.NewCertPool()}},
		})
		if err == nil {
			c.Abort()
			t.Fatal("the client trusts the server")
		}
	}
	failed := func() (n uint64) {
		for _, count := range s.Stats().Handshakes {
			n += count
		}
		return n
	}
	leaktest.Until(t, "all handshakes have ended", func() bool { return failed() == clients })
	check(t, s.Close())
	check(t, <-served)
	entries := log.All()
	if len(entries) == 0 || len(entries) == clients {
		t.Fatalf("%d lines in the log", len(entries))
	}
	first := entries[0]
	text := fmt.Sprint(first.ContextMap()["error"])
	if first.Message != "websocket: TLS handshake" || !strings.Contains(text, "certificate refused") {
		t.Errorf("%s: %s", first.Message, text)
	}
	t.Log(text)
}
