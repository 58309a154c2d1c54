package dialogue

var protocols = func() map[string]*Protocol {
	named := make(map[string]*Protocol)
	for _, p := range []*Protocol{
		{Name: "smtp", Port: 587, TLSPort: 465, plain: smtpExchanges("EHLO"),
			secure: smtpSecure("EHLO"), hello: hello("EHLO"), server: smtpServer("EHLO")},
		{Name: "lmtp", Port: 24, plain: smtpExchanges("LHLO"),
			secure: smtpSecure("LHLO"), hello: hello("LHLO"), server: smtpServer("LHLO")},
		{Name: "pop3", Port: 110, TLSPort: 995, ALPN: "pop3", plain: pop3Plain,
			secure: pop3Secure, hello: say("CAPA\r\n"), server: pop3Server},
		{Name: "imap", Port: 143, TLSPort: 993, ALPN: "imap", early: "*", plain: imapPlain,
			secure: imapSecure, hello: say("c CAPABILITY\r\n"), server: imapServer},
		{Name: "sieve", Port: 4190, ALPN: "managesieve", plain: sievePlain, secure: sieveSecure},
		{Name: "ftp", Port: 21, TLSPort: 990, ALPN: "ftp", plain: ftpPlain,
			secure: ftpSecure, hello: say("PBSZ 0\r\n")},
		{Name: "nntp", Port: 119, TLSPort: 563, ALPN: "nntp", plain: nntpPlain,
			secure: nntpSecure, hello: say("CAPABILITIES\r\n")},
		{Name: "xmpp-client", Port: 5222, TLSPort: 5223, ALPN: "xmpp-client",
			plain: xmppExchanges("jabber:client"), hello: xmppHeader("jabber:client")},
		{Name: "xmpp-server", Port: 5269, TLSPort: 5270, ALPN: "xmpp-server",
			plain: xmppExchanges("jabber:server"), hello: xmppHeader("jabber:server")},
		{Name: "irc", Port: 6667, TLSPort: 6697, ALPN: "irc", early: ":N", plain: ircPlain,
			hello: say("CAP LS 302\r\n")},
		{Name: "ldap", Port: 389, TLSPort: 636, plain: ldapPlain, hello: say(ldapSearch)},
		{Name: "postgres", Port: 5432, ALPN: "postgresql", plain: postgresPlain,
			hello: say(postgresStartup), server: postgresServer},
		{Name: "mysql", Port: 3306, plain: mysqlPlain, hello: say(mysqlLogin)},
	} {
		named[p.Name] = p
	}
	return named
}()
