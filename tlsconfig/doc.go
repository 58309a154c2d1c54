// Package tlsconfig turns what a user asks for into a *tls.Config, and what a handshake answered into advice.
//
// It does no network I/O and knows no event loop, so everything here can be called from anywhere. Reading
// certificate files is the one thing that blocks: FromOptions does, the rest does not.
//
// The client's side is four steps:
//
//	base, err := tlsconfig.FromOptions(options)  // once: Swoole's ssl_* options; or a *tls.Config of your own
//	configs := tlsconfig.NewClient(base)         // once: one policy, one cache of sessions
//	conn := tls.Client(raw, configs.For(host))   // per connection: costs a map look-up
//	err = tlsconfig.Explain(conn.Handshake(), host, configs.For(host))
//
// # What is on by default
//
// The server's chain and its name are verified against the host that was dialled, be it a name or an address.
// TLS 1.2 is the floor, TLS 1.3 the ceiling. Sessions are resumed, never from one host to another. Groups and
// cipher suites are Go's own choice. Whatever is weaker has to be asked for by name, and an option that can't be
// honoured is an error: nothing is dropped in silence.
//
// # Swoole's options
//
// FromOptions takes the ssl_* names of Swoole's client. It differs from Swoole in four places, each on purpose:
//
//   - ssl_verify_peer is true unless set to false;
//   - the name is checked also where ssl_host_name is not given: the host that was dialled is the name;
//   - ssl_protocols 0 or absent means TLS 1.2 and 1.3, not all that the library can do;
//   - ssl_disable_compression means what it says.
//
// # For development
//
// NewCA makes a certificate authority in memory that issues certificates for tests and examples, among them expired
// and not yet valid ones.
//
// RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 5280 (certificates), RFC 9525 (names in them), RFC 6066 (SNI),
// RFC 5077 (session tickets).
package tlsconfig
