// Package client is a framed connection to a server: plaintext, TLS from the start, or plaintext
// that becomes TLS in place (STARTTLS).
//
//	c := client.New(client.Config{EOF: "\r\n"})
//	defer c.Close()
//	if err := c.Connect(ctx, "tcp", "mail.example.com:587"); err != nil {
//		return err
//	}
//	greeting, err := c.Recv(ctx) // "220 …\r\n": exactly one packet
//	…
//	if err := c.EnableSSL(ctx); err != nil { // same connection, now TLS
//		return err
//	}
//
// Every call takes a context and works from coroutines and from plain goroutines alike, see package
// runtime. Package swoole makes a Config of Swoole's options.
//
// # Names
//
// Names are looked up off the loop, by Config.Resolver or net.DefaultResolver, and remembered for a
// minute, or until none of their addresses can be connected to. International ones,
// "bücher.example", become A-labels ("xn--bcher-kva.example") for DNS, for TLS's server name and
// the verification of certificates, and for the proxy; errors have them as they were given. The
// numbers of errors that ported code looks at are those of socket.Code.
//
// # Very many of a kind
//
// A [Dialer] makes Clients that share a configuration. A coroutine that connects with one and waits
// in Recv takes some 1.4 KB of heap and, as long as its own functions need little, 2 KB of stack
// (over TLS, 7.6 KB and 2 KB): Connect and EnableSSL run on other stacks, which are used again.
// What else a coroutine does once, and deeper than waiting, such as a login, it can do in a
// runtime.Detour for the same reason.
//
//	d, err := client.NewDialer(client.Config{EOF: "\r\n"})
//	for _, address := range addresses {
//		runtime.GoSpread(ctx, func(ctx context.Context) { // on all processors; Go keeps to the caller's
//			c, err := d.Dial(ctx, "tcp", address)
//			…
//
// # By callback
//
// A [Client] is for straight-line code, in a coroutine that waits. [Async] is the same connection
// served by callbacks, as Swoole's async client: while nothing happens it has no coroutine, no
// stack and no buffer, only some 600 bytes (over TLS, 7 KB). [AsyncConfig] says which callback runs
// when; with a [Reconnect] policy, such as [Backoff], an Async finds a server again that has gone.
//
//	d, err := client.NewAsyncDialer(client.AsyncConfig{
//		Config:    client.Config{EOF: "\r\n"},
//		OnReceive: func(ctx context.Context, a *client.Async, line []byte) { … a.Send(answer) … },
//		OnClose:   func(ctx context.Context, a *client.Async, reason error) { … },
//		Reconnect: client.Backoff{},
//		Spread:    true, // on all processors
//	})
//	for _, address := range addresses {
//		if _, err := d.Dial(ctx, "tcp", address); err != nil { … }
//	}
//
// # STARTTLS
//
// The change to TLS is a security boundary. [Client.EnableSSL] and [Async.EnableSSL] refuse to
// start while plaintext that has arrived is unread: whoever sits on the wire could have appended it
// to the server's answer, to be taken for the server's words over TLS later (CVE-2011-0411; RFC
// 3207, section 4.2). The framing begins anew. The certificate is verified against the host that
// was dialled, never against a name from the wire. And whatever goes wrong, the connection is
// closed, so that nothing can go on in plaintext by mistake. What a program has learnt before TLS,
// such as the server's capabilities, it must ask for again. Package starttls does all of that, with
// the dialogues of thirteen protocols.
package client
