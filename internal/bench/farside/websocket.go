package farside

import (
	"context"
	"net/http"

	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

const everybody = "everybody"

// serveWebSocket starts the server of the WebSocket roles. Clients may be idle as long as they
// like; they are pinged.
func (s *Server) serveWebSocket() error {
	config := websocket.Config{
		Options:       websocket.Options{MaxMessage: message.MaxSize, MaxQueue: 2 * message.MaxSize},
		Server:        server.Config{Port: server.Port{TLS: s.config.TLS}},
		HeaderTimeout: s.config.Timeout,
	}
	config.OnMessage = func(_ context.Context, c *websocket.Conn, m websocket.Message) {
		c.Push(m.Data, m.Opcode)
	}
	if s.config.Role == Broadcast {
		config.OnMessage = func(_ context.Context, _ *websocket.Conn, m websocket.Message) {
			s.webSocket.Broadcast(everybody, m.Data, m.Opcode)
		}
		config.OnOpen = func(_ context.Context, c *websocket.Conn, _ *http.Request) {
			s.webSocket.Join(c, everybody)
		}
	}
	s.webSocket = websocket.NewServer(config)
	network := "tcp"
	if s.config.TLS != nil {
		network = "tls"
	}
	for _, address := range s.addresses {
		if _, err := s.webSocket.Listen(s.rt.Context(), network, address); err != nil {
			return err
		}
	}
	_, err := s.rt.Go(func(ctx context.Context) { s.webSocket.Serve(ctx) }) // to its shutdown
	return err
}

func webSocketStats(of server.Stats) Stats {
	s := Stats{Accepted: int64(of.Accepted)}
	for outcome, n := range of.Handshakes {
		if s.Handshakes += int64(n); outcome != "ok" {
			s.Handshakes -= int64(n)
			s.Failed += int64(n)
		}
	}
	return s
}
