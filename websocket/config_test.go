package websocket_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

func TestConfigIsChecked(t *testing.T) {
	leaktest.Guard(t)
	for name, config := range map[string]websocket.Config{
		"neither":  {},
		"both":     {Options: websocket.Options{OnMessage: echo}, Handle: func(context.Context, *websocket.Conn) {}},
		"framing":  {Options: websocket.Options{OnMessage: echo}, Server: server.Config{Port: server.Port{EOF: "\n"}}},
		"packet":   {Options: websocket.Options{OnMessage: echo}, Server: server.Config{Port: server.Port{MaxPacket: 1 << 20}}},
		"callback": {Options: websocket.Options{OnMessage: echo}, Server: server.Config{Port: server.Port{Handle: func(context.Context, *server.Conn) {}}}},
		"bits":     {Options: websocket.Options{OnMessage: echo, Compression: websocket.Compression{WindowBits: 8}}},
		"token":    {Options: websocket.Options{OnMessage: echo, Subprotocols: []string{"a b"}}},
		"marks":    {Options: websocket.Options{OnMessage: echo, HighWater: 10, LowWater: 20}},
		"proxies":  {Options: websocket.Options{OnMessage: echo}, TrustedProxies: []string{"nowhere"}},
	} {
		if _, err := websocket.NewServer(config).Listen(context.Background(), "tcp", ":0"); err == nil || !strings.Contains(err.Error(), "websocket:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClientConfigIsChecked(t *testing.T) {
	for name, config := range map[string]client.Config{
		"delimiter": {EOF: "\n"},
		"length":    {Length: packet.LengthField{Type: 'N'}},
		"split":     {Split: bufio.ScanLines},
		"packet":    {MaxPacket: 1 << 20},
	} {
		_, err := websocket.NewDialer(websocket.ClientConfig{Client: config})
		if err == nil || !strings.Contains(err.Error(), "websocket: ClientConfig:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who looks for a network "wss" is told what it is called.
func TestListenOnAScheme(t *testing.T) {
	leaktest.Guard(t)
	s := websocket.NewServer(echoing())
	for network, says := range map[string]string{"ws": `"tcp" is for ws`, "wss": `"tls" for wss`} {
		_, err := s.Listen(context.Background(), network, "127.0.0.1:0")
		_, unknown := errors.AsType[net.UnknownNetworkError](err)
		if !unknown || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", network, err)
		}
	}
}
