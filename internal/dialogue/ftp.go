package dialogue

// FTP is RFC 4217 on RFC 959. Over TLS the client has the data connections protected, too: without
// PROT P they are in plaintext.
var (
	ftpPlain = []exchange{
		{phase: Greeting, judge: want(220)},
		{phase: StartTLS, send: say("AUTH TLS\r\n"), judge: want(234, 500, 502, 504)},
	}
	ftpSecure = []exchange{
		{phase: Secure, send: say("PBSZ 0\r\n"), judge: want(200)},
		{phase: Secure, send: say("PROT P\r\n"), judge: want(200)},
	}
)
