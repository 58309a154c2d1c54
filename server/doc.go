// Package server accepts connections on any number of listeners and serves them on the event loops.
//
//	s := server.New(server.Config{Port: server.Port{
//		EOF: "\n", // a packet is a line
//		OnReceive: func(ctx context.Context, c *server.Conn, line []byte) {
//			c.Send(ctx, line)
//		},
//	}})
//	if _, err := s.Listen(ctx, "tcp", "127.0.0.1:7000"); err != nil {
//		return err
//	}
//	return s.Serve(ctx)
//
// There are two styles:
//
//   - [Port].Handle, a coroutine per connection: straight-line code that receives, sends and turns
//     the connection into TLS. A waiting coroutine costs about 3 KiB.
//   - [Port].OnReceive and its relations, callbacks: a connection on which nothing happens has no
//     coroutine and no buffer, some 600 bytes in all.
//
// Both use the same [Conn], with the verbs of client.Client, on the same sockets.
//
// # The life of a connection
//
// A loop accepts it, and it gets a loop for life. If its listener is behind a proxy
// (Port.ProxyProtocol), the proxy's header comes first, and says where the client is. On "tls", the
// handshake is next. Until then nothing waits for the client but a few hundred bytes: a coroutine,
// a stack and the state of TLS are spent only when the first TLS record, the ClientHello, has
// arrived whole. Then the connection stands, has an [ID], and OnConnect is called. OnClose is
// called once at its end, whatever the cause is.
//
// All callbacks of a connection, its coroutine, and its timers run on its loop, one at a time and
// in the order of what happened. So they need no lock for what belongs to the connection.
// Connections are distributed over the loops in turn. From other loops and from goroutines a
// connection is used by its ID or its Conn: Send and Close hand over to its loop.
//
// # Accepting
//
// One coroutine accepts and hands connections to the loops in turn, so each loop has as many as
// another. Port.ReusePort has each loop accept on a socket of its own, between which the kernel
// distributes by a hash of the addresses: no hand-over, but loops may get more or less than their
// share, which stays so as long as the connections last, and what lies in the backlog of a socket
// is lost when it is closed before it is accepted. BenchmarkAccept measures both. When the process
// has no descriptors left (EMFILE), accepting rests for 50 ms at a time and goes on; connections
// wait in the backlog.
//
// # Bounds
//
// Everything that a peer can make grow has a bound, see [Config] and [Port]: connections,
// connections of an address, packets, queued output, handshakes at a time, what lingers, and the
// time that each of these may take. A peer that takes nothing of what is queued for it is
// disconnected after Port.WriteTimeout.
//
// A bound on work is not held by who only waits: a handshake that waits for its client keeps no
// other one from computing. And what has a bound is counted: a connection that was closed, and
// still delivers what was sent, counts for MaxConnections and MaxPerAddress until it is gone.
// Whoever is turned away may be told so (Port.LastWord), and Port.OnReject says why.
//
// # The end
//
// [Server.Shutdown] ends a server in order: nothing that has arrived goes unanswered, and it waits
// until what was sent is delivered. When its context ends it cuts the rest off, and says how much
// that was. [Server.Close] ends it at once, and delivers in the background. In both cases Serve
// returns when nothing is left of any connection.
package server
