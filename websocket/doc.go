// Package websocket is WebSocket (RFC 6455) with compression (RFC 7692), server and client, on
// packages server and client: Swoole's WebSocket\Server with its names and its order of events.
//
//	s := websocket.NewServer(websocket.Config{Options: websocket.Options{
//		OnMessage: func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
//			c.Push(m.Data, m.Opcode)
//		},
//	}})
//	s.Listen(ctx, "tcp", ":9501")
//	s.Serve(ctx)
//
// A connection on which nothing happens has no coroutine, no stack and no buffer, at either end.
// Who prefers straight-line code has Config.Handle and [Conn.Recv].
//
// # Where functions run
//
// All callbacks of a connection run on its loop, one at a time, in the order in which things
// happen, and must not wait; who has to, starts a coroutine with runtime.Go(ctx, …). OnHandshake
// and Handle run in coroutines of their own, and may. OnRequest runs on goroutines of net/http.
// Everything may be pushed, closed, joined and broadcast from anywhere: [Conn.Push] never waits,
// and says what has become of the message.
//
// # The order of events
//
// Of one connection: OnHandshake, OnBeforeHandshakeResponse, the 101, OnOpen, what event.Defer was
// given in OnHandshake, OnMessage any number of times, OnClose. A connection that ends before the
// 101 has OnDisconnect in place of OnOpen and what follows.
//
// # HTTP
//
// Package net/http reads requests: the first one of a connection by http.ReadRequest on the loop,
// and if that doesn't ask for a WebSocket, an http.Server has the connection from then on, for as
// many requests as there are. A handshake among these takes it back. [Upgrade] is for handlers of
// any http.Server.
//
// # What is refused
//
// The protocol is checked at the first illegal byte, text as UTF-8 within a frame that has not
// ended, sizes by the header alone, and inflated messages while they are inflated. A violation is
// answered by the close frame that the RFC names before the connection ends. Nothing is allocated
// by a length that the peer has declared. A peer that takes less than it is sent has a bound
// (Options.MaxQueue), one that says nothing is pinged (Options.PingInterval), and one that doesn't
// answer a close frame is cut off (Options.CloseTimeout). Pages of other hosts are refused unless
// Config.OriginPatterns allows them.
package websocket
