// Package smtp sends mail: by SMTP to a server that passes it on, or by LMTP to one that delivers
// it.
//
//	c, err := smtp.Dial(ctx, "mail.example.com:587", smtp.Config{
//		Auth: smtp.Password("me", secret),
//	})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	receipt, err := c.Send(ctx, &smtp.Mail{
//		From:    "me@example.com",
//		To:      []string{"you@example.com"},
//		Message: message, // an io.WriterTo, such as a *mail.Msg of wneessen/go-mail
//	})
//
// Every call takes a context and works from coroutines and from plain goroutines alike, see package
// runtime. Nothing is kept of a mail but the first 64 KiB while it is sent.
//
// # Security
//
// A session is over TLS, or it isn't one: STARTTLS is [Mandatory] unless the Config says [Implicit]
// (port 465), or [Opportunistic] by name. Credentials go over TLS only, in each of these. What a
// server has said before TLS is forgotten, and the certificate is verified against the host that
// was dialled: see package client on STARTTLS. Of the mechanisms in Config.Auth the first one is
// used that the server offers; if it fails, no other one is tried.
//
// # What is sent
//
// What CR, LF or NUL could make more than one thing of is refused with [ErrInvalid] before a byte
// of the mail is sent: addresses, parameters, and the message's header, which must not have stray
// ones, nor line ends of two kinds. In the message itself each CR LF, LF and CR is a line end, and
// is sent as CR LF; then lines that begin with a dot get a second one. So no two servers can differ
// about where it ends (SMTP smuggling, CVE-2023-51764 and its kin). A [Mail] that is Binary is sent
// byte by byte, with its length in front.
//
// Commands leave together where the server has PIPELINING: a mail to any number of recipients takes
// two round trips. SIZE, 8BITMIME and SMTPUTF8 are used as the mail needs them.
//
// # What comes of it
//
// A mail is accepted or it isn't, for each recipient: [Client.Send] returns an error when nobody
// gets it, and a [Receipt] with those who were refused. A refusal is an [*Error]; what it says of
// itself, temporary or permanent, decides whether to try again. [ErrInDoubt] is in the error when
// the connection was lost at the moment when the server could have accepted the mail: to send it
// again may be to send it twice.
//
// # Many mails
//
// A [Pool] keeps connections to a server, and everything about them has a bound: their number, the
// mails on each, their age, how long they may be idle, the mails in a second, the attempts for a
// mail, and who waits.
//
// RFC 5321 (SMTP), 2033 (LMTP), 3207 (STARTTLS), 4954 (AUTH), 2920 (PIPELINING), 3030 (CHUNKING,
// BINARYMIME), 6152 (8BITMIME), 6531 (SMTPUTF8), 1870 (SIZE), 3461 (DSN), 8689 (REQUIRETLS), 6710
// (MT-PRIORITY), 2034 and 3463 (enhanced status codes).
package smtp
