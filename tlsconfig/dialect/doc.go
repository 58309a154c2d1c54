// Package dialect takes TLS's options as Swoole has them (SwooleClient, SwooleServer: ssl_*) and as
// the ssl contexts of PHP's streams have them (PHPClient, PHPServer), and makes of them what
// package tlsconfig works with.
//
//	config, err := dialect.SwooleClient(map[string]any{
//		"ssl_cafile":    "/etc/ssl/mail-ca.pem",
//		"ssl_host_name": "mail.example.com",
//	})
//	if err != nil {
//		return err // which option, and why
//	}
//	c := client.New(client.Config{TLS: config})
//
// Nothing is dropped in silence: an option that can't be honoured is an error that says why. They
// differ from Swoole and PHP on purpose:
//
//   - ssl_verify_peer is true for clients unless set to false;
//   - the name is checked also where ssl_host_name is not given: the host that was dialled is the
//     name;
//   - ssl_protocols 0 or absent means TLS 1.2 and 1.3, not all that the library can do, and so do
//     PHP's constants for any version;
//   - ssl_disable_compression means what it says;
//   - a server that is to verify its clients needs to be told by which authorities: those of the
//     system are for servers;
//   - a client's certificate is verified wherever one is asked for;
//   - a server with alpn_protocols refuses a client that offers others only.
//   - names are looked for among the alternative names of a certificate, never in its common name
//     (RFC 9525).
package dialect
