// Package tlsconfig turns what a user asks for into a *tls.Config, and keeps that of a server up to
// date.
//
// The client's side is four steps:
//
//	base, err := options.Config()                // once: ClientOptions; or a *tls.Config of your own
//	configs := tlsconfig.NewClient(base)         // once: one policy, one cache of sessions
//	conn := tls.Client(raw, configs.For(host))   // per connection: costs a map look-up
//	err = explain.Client(conn.Handshake(), host, configs.For(host))
//
// So is the server's:
//
//	server, err := tlsconfig.NewServer(options)  // once: reads and checks certificates, keys and authorities
//	go server.Watch(ctx, watchOptions)           // reloads what changes, warns of what runs out
//	conn := tls.Server(raw, server.Config())     // per connection: the same configuration each time
//	err = explain.Server(conn.Handshake(), address, server.Config())
//
// It does no network I/O and knows no event loop, so everything here can be called from anywhere.
// Reading certificate files is the one thing that blocks: ClientOptions.Config, NewServer and
// Server.Reload do, the rest does not.
//
// # What is on by default
//
// The server's chain and its name are verified against the host that was dialled, be it a name or
// an address. TLS 1.2 is the floor, TLS 1.3 the ceiling. Sessions are resumed, never from one host
// to another, nor under another policy for client certificates. The keys of session tickets change
// every twelve hours. Groups and cipher suites are Go's own choice. Whatever is weaker has to be
// asked for by name, and an option that can't be honoured is an error: nothing is dropped in
// silence.
//
// # What a server checks
//
// NewServer and Server.Reload look at what they read as clients will. A *CertificateError says what
// is wrong, and what mends it: a file that is missing, unreadable or no PEM, key and certificate
// swapped, an encrypted key, the key of another certificate, a leaf that doesn't come first, a
// certificate that has run out, has no names, is not for servers, or is too weak. What only some
// clients stumble over (a chain that lacks what its own pointer to the issuer names, or is out of
// order) is a warning. A reload that finds a mistake leaves everything as it was.
//
// # The packages beside it
//
// Package explain says why handshakes have failed. Package dialect takes the options of Swoole and
// of PHP's streams, package devca makes certificates for development and tests.
//
// RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 5280 (certificates), RFC 9525 (names in them), RFC
// 6066 (SNI), RFC 5077 (session tickets), RFC 7301 (ALPN), RFC 5869 (HKDF).
package tlsconfig
