// Package starttls turns a connection that begins in plaintext into TLS, as its protocol has it:
// SMTP, LMTP, POP3, IMAP, ManageSieve, FTP, NNTP, XMPP, IRC, LDAP, PostgreSQL, MySQL.
//
//	c := client.New(client.Config{EOF: "\r\n"})
//	defer c.Close()
//	if err := c.Connect(ctx, "tcp", "mail.example.com:587"); err != nil {
//		return err
//	}
//	session, err := starttls.Upgrade(ctx, c, starttls.SMTP, starttls.Options{})
//	if err != nil {
//		return err // and the connection is closed
//	}
//	// c is at the point where MAIL and AUTH may follow, over TLS.
//
// # What it guards against
//
// Until the handshake is done, anybody on the wire can read what is said, take words out and put
// words in. "Why TLS is better without STARTTLS" (USENIX Security 2021) has what that was good for.
// So [Upgrade]
//
//   - takes only the exact answer of the protocol for a yes. A server that doesn't offer TLS,
//     refuses it, or says something else ends in an error: there is no way on in plaintext;
//   - refuses plaintext that comes behind the server's agreement (CVE-2011-0411, CVE-2021-23222),
//     and plaintext in place of the handshake;
//   - has the certificate verified for the host that was dialled, or Config.TLS.ServerName, and for
//     XMPP's domain. No name comes from the wire;
//   - forgets what was said in plaintext, and asks again over TLS what the server can do;
//   - bounds what a server may say, in length by itself and in time by the Client's time-outs:
//     ReadTimeout for each answer, HandshakeTimeout for the handshake;
//   - closes the connection, whatever goes wrong.
//
// What a server says in plaintext is in errors as what it is: untrusted, quoted and shortened.
package starttls
