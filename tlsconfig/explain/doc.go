// Package explain says why a TLS handshake failed, and what mends it.
//
//	conn := tls.Client(raw, config)
//	err := explain.Client(conn.Handshake(), "mail.example.com", config)
//	if failed, ok := errors.AsType[*explain.HandshakeError](err); ok {
//		log.Print(failed.ID, ": ", failed.Detail)
//		log.Print(failed.Advice)
//	}
//
// Server does that for a server's handshake. Both return a *HandshakeError. Its Reason is what a
// program may decide by and count under, its ID names the cause (docs/probe.md lists all of them),
// its Detail and Advice are for people. The errors of crypto/tls are behind it for errors.Is and
// errors.As. Packages client, server and hooks call them for the handshakes that they make.
//
// Nothing here does I/O, and everything may be called concurrently, from anywhere.
//
// RFC 8446, section 6 (alerts); RFC 5280 (certificates); RFC 9525 (names in them).
package explain
