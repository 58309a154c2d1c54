//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/websocket"
)

// startWebProxy starts an nginx in front of a server, with the configuration of the documentation.
// options are those of its listening, backend is the server's URL. A forgetful one lacks what is
// about WebSocket.
func startWebProxy(t *testing.T, dir *servers.Folder, options, backend string, forgetful bool) (addr string) {
	t.Helper()
	addr, _ = servers.FreeAddress(t)
	documented, err := os.ReadFile("../examples/websocket-wss/nginx.conf")
	leaktest.Check(t, err)
	var config strings.Builder
	fmt.Fprintf(&config, "daemon off;\npid %s/pid;\nerror_log stderr;\n", dir.Dir)
	for line := range strings.Lines(string(documented)) {
		if forgetful && strings.Contains(line, "proxy_set_header") {
			continue
		}
		config.WriteString(line)
		if line == "http {\n" {
			fmt.Fprintf(&config, "access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; "+
				"fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;\n", dir.Dir)
		}
	}
	text := config.String()
	for documented, here := range map[string]string{
		"listen 443 ssl;":        "listen " + addr + " " + options + ";",
		"/etc/ssl/fullchain.pem": dir.Path("cert.pem"),
		"/etc/ssl/privkey.pem":   dir.Path("key.pem"),
		"http://127.0.0.1:9501":  backend,
	} {
		if strings.Count(text, documented) != 1 {
			t.Fatalf("nginx.conf has not %q once", documented)
		}
		text = strings.Replace(text, documented, here, 1)
	}
	nginx := dir.Start(servers.Find(t, "nginx"), "-e", "stderr", "-p", dir.Dir, "-c", dir.Write("nginx.conf", text))
	nginx.Dial("tcp", addr).Close()
	return addr
}

// where answers every message with where the client is, and over what it has come.
func where() websocket.Config {
	return websocket.Config{
		TrustedProxies: []string{"127.0.0.1"},
		OnOpen: func(_ context.Context, c *websocket.Conn, r *http.Request) {
			c.SetValue(fmt.Sprintf("%v %s %s", c.Secure(), r.Host, r.RemoteAddr))
		},
		OnRequest: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "a page") }),
		Options: websocket.Options{
			Compression: websocket.Compression{Enabled: true},
			OnMessage: func(_ context.Context, c *websocket.Conn, m websocket.Message) {
				c.Push(fmt.Appendf(nil, "%s: %s", c.Value(), m.Data), m.Opcode)
			},
		},
	}
}

// The server knows the client, whichever way it comes through nginx: ws and wss, TLS ended there or
// passed on anew.
func TestServerBehindNginx(t *testing.T) {
	for _, test := range []struct{ scheme, options, network string }{
		{"ws", "", "tcp"},
		{"wss", "ssl", "tcp"},
		{"wss", "ssl", "tls"},
	} {
		t.Run(test.scheme+" to "+test.network, func(t *testing.T) {
			ca, dir := servers.NewCA(t), servers.NewFolder(t)
			dir.Certify(ca)
			certificate := servers.Sign(t, ca, devca.Request{Names: []string{"127.0.0.1"}})
			url := startWeb(t, test.network, where(), &tls.Config{Certificates: []tls.Certificate{certificate}})
			backend := strings.Replace(url, "ws", "http", 1)
			addr := startWebProxy(t, dir, test.options, backend, false)

			ctx, cancel := context.WithTimeout(runtimetest.Start(t).Context(), leaktest.Patience)
			defer cancel()
			c, err := websocket.Dial(ctx, test.scheme+"://"+addr+"/", websocket.ClientConfig{
				Options: websocket.Options{Compression: websocket.Compression{Enabled: true}},
				Client:  client.Config{TLS: &tls.Config{RootCAs: ca.Pool()}},
				Header:  http.Header{"Origin": {strings.Replace(test.scheme, "ws", "http", 1) + "://" + addr}},
			})
			leaktest.Check(t, err)
			defer c.Abort()
			secure := test.scheme == "wss"
			// nginx tells the address, but not the port.
			exchangeMessages(ctx, t, c, websocket.Text, "hello", fmt.Sprintf("%v %s 127.0.0.1:0: hello", secure, addr))
			long := strings.Repeat("long ", 100_000)
			exchangeMessages(ctx, t, c, websocket.Text, long, fmt.Sprintf("%v %s 127.0.0.1:0: %s", secure, addr, long))
			ended := make(chan error, 1)
			leaktest.Check(t, c.Close(websocket.StatusNormal, ""))
			go func() { _, err := c.Recv(ctx); ended <- err }()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// A proxy that isn't told of WebSockets drops Upgrade. The client says so.
func TestAProxyThatDropsUpgrade(t *testing.T) {
	dir := servers.NewFolder(t)
	dir.Certify(servers.NewCA(t))
	config := where()
	config.OnRequest = nil
	url := startWeb(t, "tcp", config, nil)
	addr := startWebProxy(t, dir, "", strings.Replace(url, "ws", "http", 1), true)
	ctx := runtimetest.Start(t).Context()
	_, err := websocket.Dial(ctx, "ws://"+addr+"/", websocket.ClientConfig{})
	refused, ok := errors.AsType[*websocket.DialError](err)
	if !ok || refused.Layer != "HTTP" || refused.Status != http.StatusUpgradeRequired ||
		!strings.Contains(err.Error(), "a proxy in front of it may drop Upgrade and Connection") {
		t.Errorf("%v", err)
	}
}

// curl's own upgrade: the 101, and behind it the first push.
func TestUpgradeByCurl(t *testing.T) {
	ca, dir := servers.NewCA(t), servers.NewFolder(t)
	certificate := servers.Sign(t, ca, devca.Request{Names: []string{"127.0.0.1"}})
	caFile := dir.Write("ca.pem", string(ca.PEM()))
	config := where()
	config.OnHandshake = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c := websocket.ConnOf(r)
		event.Defer(r.Context(), func(context.Context) {
			c.Push([]byte("welcome"), websocket.Text)
			c.Close(websocket.StatusNormal, "bye")
		})
	}
	config.CloseTimeout = 100 * time.Millisecond // curl doesn't answer
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			url := strings.Replace(startWeb(t, network, config, &tls.Config{Certificates: []tls.Certificate{certificate}}), "ws", "http", 1)
			curl := func(args ...string) string {
				args = append([]string{"-sS", "--http1.1", "-i", "--cacert", caFile, url}, args...)
				p := servers.Start(t, "curl", args...)
				p.Ended()
				return p.Said()
			}
			said := curl("-N", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
				"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") // RFC 6455, section 1.3
			head, frames, _ := strings.Cut(said, "\r\n\r\n")
			if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "\r\nSet-Cookie: a=b") ||
				!strings.Contains(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
				t.Errorf("%q", head)
			}
			if want := "\x81\x07welcome\x88\x05\x03\xe8bye"; !strings.HasPrefix(frames, want) {
				t.Errorf("behind it %q, want %q", frames, want)
			}
			if said := curl(); !strings.HasPrefix(said, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(said, "\r\n\r\na page") {
				t.Errorf("%q", said)
			}
			said = curl("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 8",
				"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
			for _, want := range []string{"http/1.1 426 ", "\r\nsec-websocket-version: 13\r\n", "\r\nconnection: upgrade, close\r\n"} {
				if !strings.Contains(strings.ToLower(said), want) {
					t.Errorf("%q, want %q", said, want)
				}
			}
		})
	}
}
