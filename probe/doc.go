// Package probe says why TLS with a server fails, and what the server takes where it doesn't.
//
//	target := probe.Target{Host: "mail.example.com", Port: 587, StartTLS: "smtp"}
//	report, err := probe.Run(ctx, target, probe.Options{})
//	for _, finding := range report.Findings {
//		fmt.Println(finding.ID, finding.Evidence, finding.Mend)
//	}
//
// Run goes from below upwards, DNS, TCP, greeting, STARTTLS, handshake, chain, name, dates, and
// ends where nothing more can be found out. What works is then asked for more: versions, suites,
// groups and so on, each in a connection of its own, one after the other. Files does for files what
// can be done without a connection. The causes and their mends are those of package
// tlsconfig/explain; docs/probe.md has them all.
//
// A probe is what a client of the server does, and no more: it sends commands that do nothing. It
// verifies nothing before it looks at it; a client certificate, if it is given one, is shown to
// whoever answers. Behind TLS it asks for a page, or opens a WebSocket and leaves, as whoever the
// URL and the header let in; a server that isn't verified gets no header and no query.
//
// RFC 8446, RFC 5246 (TLS), RFC 5280 (certificates), RFC 9525 (names in them), RFC 6960 (OCSP).
package probe
