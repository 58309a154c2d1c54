//go:build linux

package hooks_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/tlsconfig"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestOptionsThatCannotBeHonoured(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		const client, server = "tcp://127.0.0.1:1", "tcp://127.0.0.1:0"
		for _, c := range []struct {
			url             string
			wrapper, option string
			value           any
		}{
			{client, "socket", "nodelay", true},
			{client, "socket", "tcp_nodelay", "yes"},
			{client, "socket", "backlog", 5},
			{client, "socket", "so_reuseport", true},
			{client, "socket", "ipv6_v6only", true},
			{client, "socket", "so_broadcast", true},
			{client, "socket", "bindto", "localhost:0"},
			{client, "socket", "bindto", "127.0.0.1:70000"},
			{client, "socket", "bindto", "::1:0"},
			{client, "socket", "bindto", 5},
			{client, "socket", "tcp_keepidle", 0},
			{client, "socket", "tcp_keepcnt", 128},
			{client, "socket", "tcp_keepintvl", math.NaN()},
			{"udp://127.0.0.1:1", "socket", "tcp_nodelay", true},
			{"unix:///nowhere", "socket", "bindto", "127.0.0.1:0"},
			{server, "socket", "bindto", "127.0.0.1:0"},
			{server, "socket", "backlog", 0},
			{server, "socket", "backlog", 1 << 16},
			{server, "socket", "so_reuseaddr", false},
			{"udp://127.0.0.1:0", "socket", "backlog", 5},
			{"tls://127.0.0.1:1", "ssl", "peer_nam", "x"},
			{"tls://127.0.0.1:1", "ssl", "local_pk", "/nowhere"},
			{"tls://127.0.0.1:1", "ssl", "psk_client_cb", "f"},
			{"tls://127.0.0.1:1", "ssl", "security_level", 2},
			{"tls://127.0.0.1:1", "ssl", "verify_peer", "false"},
			{"tls://127.0.0.1:1", "ssl", "disable_compression", false},
			{"tls://127.0.0.1:1", "ssl", "crypto_method", int(hooks.CryptoTLSv12Server)},
			{"tls://127.0.0.1:0", "ssl", "crypto_method", int(hooks.CryptoTLSv12Client)},
			{"tls://127.0.0.1:0", "ssl", "verify_peer", true},
		} {
			made, err := hooks.StreamContextCreate(streamOptions{c.wrapper: {c.option: c.value}})
			if err == nil && c.url[len(c.url)-2:] == ":0" {
				_, err = hooks.StreamSocketServer(ctx, c.url, hooks.WithStreamContext(made))
			} else if err == nil {
				_, err = hooks.StreamSocketClient(ctx, c.url, hooks.WithStreamContext(made))
			}
			wrong, ok := errors.AsType[*hooks.StreamOptionError](err)
			if !ok || wrong.Wrapper != c.wrapper || wrong.Option != c.option && !(c.wrapper == "ssl" && wrong.Option == "local_cert") {
				t.Errorf("%s with %s.%s = %v: %v", c.url, c.wrapper, c.option, c.value, err)
			}
		}
		if _, err := hooks.StreamContextCreate(streamOptions{"http": {"method": "GET"}}); err == nil {
			t.Error("options of http are taken")
		}
		_, err := hooks.StreamSocketClient(ctx, "tls://127.0.0.1:1", withContext(t, streamOptions{"ssl": {"cafile": "/nowhere/ca.pem"}}))
		if failed, ok := errors.AsType[*tlsconfig.CertificateError](err); !ok || failed.Reason != explain.ReasonFileMissing {
			t.Errorf("a missing cafile: %v", err)
		}
	})
}

func TestContextsDoNotChange(t *testing.T) {
	options := streamOptions{"ssl": {"peer_name": "a"}, "socket": {"tcp_nodelay": true}}
	c, err := hooks.StreamContextCreate(options)
	check(t, err)
	options["ssl"]["peer_name"] = "b"
	c.Options()["ssl"]["peer_name"] = "c"
	d, err := c.With("ssl", "peer_name", "d")
	check(t, err)
	e, err := d.With("ssl", "verify_depth", 3)
	check(t, err)
	for i, want := range []map[string]any{{"peer_name": "a"}, {"peer_name": "d"}, {"peer_name": "d", "verify_depth": 3}} {
		if got := []*hooks.StreamContext{c, d, e}[i].Options(); !maps.Equal(got["ssl"], want) || !maps.Equal(got["socket"], options["socket"]) {
			t.Errorf("context %d: %v, want %v", i, got, want)
		}
	}
	if _, err := c.With("socket", "tcp_nodelay", "x"); err == nil {
		t.Error("an option of the wrong type is taken")
	}
	if f, err := new(hooks.StreamContext).With("socket", "so_keepalive", true); err != nil || len(f.Options()) != 1 {
		t.Errorf("from none: %v, %v", f, err)
	}
}
