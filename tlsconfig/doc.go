// Package tlsconfig turns what a user asks for into a *tls.Config, and what a handshake answered into advice.
//
// It does no network I/O and knows no event loop, so everything here can be called from anywhere. Reading
// certificate files is the one thing that blocks: FromOptions, ClientFromPHP, NewServer and Server.Reload do, the rest
// does not.
//
// The client's side is four steps:
//
//	base, err := tlsconfig.FromOptions(options)  // once: Swoole's ssl_* options; or a *tls.Config of your own
//	configs := tlsconfig.NewClient(base)         // once: one policy, one cache of sessions
//	conn := tls.Client(raw, configs.For(host))   // per connection: costs a map look-up
//	err = tlsconfig.Explain(conn.Handshake(), host, configs.For(host))
//
// So is the server's:
//
//	server, err := tlsconfig.NewServer(options)  // once: reads and checks certificates, keys and authorities
//	go server.Watch(ctx, watchOptions)           // reloads what changes, warns of what runs out
//	conn := tls.Server(raw, server.Config())     // per connection: the same configuration each time
//	err = tlsconfig.ExplainServer(conn.Handshake(), address)
//
// # What is on by default
//
// The server's chain and its name are verified against the host that was dialled, be it a name or an address. TLS 1.2
// is the floor, TLS 1.3 the ceiling. Sessions are resumed, never from one host to another, nor under another policy for
// client certificates. The keys of session tickets change every twelve hours. Groups and cipher suites are Go's own
// choice. Whatever is weaker has to be asked for by name, and an option that can't be honoured is an error: nothing is
// dropped in silence.
//
// # What a server checks
//
// NewServer and Server.Reload look at what they read as clients will. A *CertificateError says what is wrong, and what
// mends it: a file that is missing, unreadable or no PEM, key and certificate swapped, an encrypted key, the key of
// another certificate, a leaf that doesn't come first, a certificate that has run out, has no names, is not for
// servers, or is too weak. What only some clients stumble over (a chain that is incomplete or out of order) is a
// warning. A reload that finds a mistake leaves everything as it was.
//
// # Swoole's options and PHP's
//
// FromOptions and ServerFromOptions take the ssl_* names of Swoole, ClientFromPHP and ServerFromPHP the ssl context
// options of PHP's streams. They differ from Swoole and PHP on purpose:
//
//   - ssl_verify_peer is true for clients unless set to false;
//   - the name is checked also where ssl_host_name is not given: the host that was dialled is the name;
//   - ssl_protocols 0 or absent means TLS 1.2 and 1.3, not all that the library can do, and so do PHP's constants for any version;
//   - ssl_disable_compression means what it says;
//   - a server that is to verify its clients needs to be told by which authorities: those of the system are for servers;
//   - a client's certificate is verified wherever one is asked for;
//   - a server with alpn_protocols refuses a client that offers others only.
//
// # For development
//
// NewCA makes a certificate authority in memory that issues certificates for tests and examples, among them expired
// and not yet valid ones. SelfSigned makes one without an authority, WritePEM writes either to files.
//
// RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 5280 (certificates), RFC 9525 (names in them), RFC 6066 (SNI),
// RFC 5077 (session tickets), RFC 7301 (ALPN), RFC 5869 (HKDF).
package tlsconfig
