//go:build interop

package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/websocket"
)

// A webPeer is a WebSocket library of somebody else: a program that serves and talks, in testdata.
type webPeer struct {
	program, script string
	name            string            // as it calls itself
	deflate         map[string]string // its options of compression, by what they are
}

// webPeers are the peers. python3 is Debian's, whose packages other Pythons don't see.
var webPeers = []webPeer{
	{"/usr/bin/python3", "testdata/websockets_peer.py", "websockets", map[string]string{
		"plain":       `false`,
		"takeover":    `{}`,
		"no takeover": `{"server_no_context_takeover": true, "client_no_context_takeover": true}`,
		"window bits": `{"server_max_window_bits": 10, "client_max_window_bits": 10}`,
	}},
	{"node", "testdata/ws_peer.cjs", "ws", map[string]string{
		"plain":       `false`,
		"takeover":    `{"threshold": 0}`,
		"no takeover": `{"threshold": 0, "serverNoContextTakeover": true, "clientNoContextTakeover": true}`,
		"window bits": `{"threshold": 0, "serverMaxWindowBits": 10, "clientMaxWindowBits": 10}`,
	}},
}

// ours are our options for each of the peers'.
func ours(deflate string) websocket.Options {
	o := websocket.Options{Subprotocols: []string{"chat"}, MaxMessage: 32 << 20, MaxQueue: 64 << 20}
	switch deflate {
	case "takeover", "window bits":
		o.Compression = websocket.Compression{Enabled: true, Takeover: true, MinSize: 1}
	case "no takeover":
		o.Compression = websocket.Compression{Enabled: true, MinSize: 1}
	}
	return o
}

// startEcho starts a server of ours that echoes and knows the words of the peers. network is "tcp"
// or "tls". It returns its URL.
func startEcho(t *testing.T, network string, o websocket.Options, secure *tls.Config) string {
	t.Helper()
	o.OnMessage = func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
		switch string(m.Data) {
		case "close 3001":
			c.Close(3001, "as asked")
		case "ping":
			c.Ping([]byte("from Whorl"))
		case "fragments":
			runtime.Go(ctx, func(ctx context.Context) {
				if err := pushFragments(ctx, c, "in ", "three ", "fragments"); err != nil {
					t.Error(err)
				}
			})
		default:
			c.Push(m.Data, m.Opcode)
		}
	}
	o.OnPong = func(_ context.Context, c *websocket.Conn, data []byte) {
		c.Push([]byte("ponged "+string(data)), websocket.Text)
	}
	return startWeb(t, network, websocket.Config{Options: o}, secure)
}

// pushFragments sends a message in fragments.
func pushFragments(ctx context.Context, c *websocket.Conn, fragments ...string) error {
	w, err := c.Writer(ctx, websocket.Text)
	if err != nil {
		return err
	}
	for _, fragment := range fragments {
		if _, err := w.Write([]byte(fragment)); err != nil {
			return err
		}
	}
	return w.Close()
}

// startWeb starts a server of ours, and returns its URL without a path.
func startWeb(t *testing.T, network string, config websocket.Config, secure *tls.Config) string {
	t.Helper()
	config.Server.TLS = secure
	ctx := runtimetest.Start(t).Context()
	s := websocket.NewServer(config)
	l, err := s.Listen(ctx, network, "127.0.0.1:0")
	leaktest.Check(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	if network == "tls" {
		return "wss://" + l.Addr().String()
	}
	return "ws://" + l.Addr().String()
}

func TestServerWithOtherClients(t *testing.T) {
	for _, peer := range webPeers {
		for deflate, options := range peer.deflate {
			t.Run(peer.name+", "+deflate, func(t *testing.T) {
				url := startEcho(t, "tcp", ours(deflate), nil)
				servers.Start(t, peer.program, peer.script, "talk", url, options).Expect("ok\n")
			})
		}
		t.Run(peer.name+", wss", func(t *testing.T) {
			ca, dir := servers.NewCA(t), servers.NewFolder(t)
			certificate := servers.Sign(t, ca, devca.Request{Names: []string{"127.0.0.1"}})
			t.Setenv("NODE_EXTRA_CA_CERTS", dir.Write("ca.pem", string(ca.PEM())))
			url := startEcho(t, "tls", ours("takeover"), &tls.Config{Certificates: []tls.Certificate{certificate}})
			servers.Start(t, peer.program, peer.script, "talk", url, peer.deflate["takeover"]).Expect("ok\n")
		})
	}
}

func TestClientWithOtherServers(t *testing.T) {
	for _, peer := range webPeers {
		for deflate, options := range peer.deflate {
			t.Run(peer.name+", "+deflate, func(t *testing.T) {
				server := servers.Start(t, peer.program, peer.script, "serve", options)
				talk(t, "ws://127.0.0.1:"+server.Match(`port (\d+)`)[1], deflate, peer.name)
			})
		}
	}
}

// talk is a client of ours.
func talk(t *testing.T, url, deflate, name string) {
	ctx, cancel := context.WithTimeout(runtimetest.Start(t).Context(), leaktest.Patience)
	defer cancel()
	pongs := make(chan string, 1)
	config := websocket.ClientConfig{Options: ours(deflate)}
	config.OnPong = func(_ context.Context, _ *websocket.Conn, data []byte) { pongs <- string(data) }
	c, err := websocket.Dial(ctx, url, config)
	leaktest.Check(t, err)
	defer c.Abort()
	if c.Subprotocol() != "chat" || c.Compressed() != config.Compression.Enabled {
		t.Errorf("subprotocol %q, compression %v", c.Subprotocol(), c.Compressed())
	}
	for _, text := range []string{"", "hello", "grüße 你好 👋", strings.Repeat("long ", 100_000)} {
		exchangeMessages(ctx, t, c, websocket.Text, text, text)
	}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * i >> 3)
		}
		exchangeMessages(ctx, t, c, websocket.Binary, string(data), string(data))
	}
	leaktest.Check(t, pushFragments(ctx, c, "one ", "message ", "in ", "fragments"))
	expectMessage(ctx, t, c, websocket.Text, "one message in fragments")
	leaktest.Check(t, c.Ping([]byte("from Whorl")))
	if got := <-pongs; got != "from Whorl" {
		t.Errorf("pong %q", got)
	}
	exchangeMessages(ctx, t, c, websocket.Text, "ping", "ponged from "+name)
	exchangeMessages(ctx, t, c, websocket.Text, "fragments", "in three fragments")
	c.Push([]byte("close 3001"), websocket.Text)
	_, err = c.Recv(ctx)
	if e, ok := errors.AsType[*websocket.CloseError](err); !ok || e.Code != 3001 || e.Reason != "as asked" || !e.Clean {
		t.Errorf("%v", err)
	}

	ended := make(chan bool, 1)
	config.OnClose = func(_ context.Context, _ *websocket.Conn, _ int, _ string, clean bool) { ended <- clean }
	c, err = websocket.Dial(ctx, url, config)
	leaktest.Check(t, err)
	leaktest.Check(t, c.Close(websocket.StatusNormal, "bye"))
	if clean := <-ended; !clean {
		t.Errorf("our close frame was not answered: %v", c.Err())
	}
}

func exchangeMessages(
	ctx context.Context, t *testing.T, c *websocket.Conn, op websocket.Opcode, sent, want string,
) {
	t.Helper()
	if _, err := c.Push([]byte(sent), op); err != nil {
		t.Fatal(err)
	}
	expectMessage(ctx, t, c, op, want)
}

func expectMessage(ctx context.Context, t *testing.T, c *websocket.Conn, op websocket.Opcode, want string) {
	t.Helper()
	m, err := c.Recv(ctx)
	if err != nil || m.Opcode != op || string(m.Data) != want {
		t.Fatalf("received %v, %d bytes: %.100q, %v; want %v, %d bytes: %.100q",
			m.Opcode, len(m.Data), m.Data, err, op, len(want), want)
	}
}
