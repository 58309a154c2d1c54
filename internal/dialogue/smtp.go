package dialogue

import "strings"

// SMTP is RFC 3207 on RFC 5321; LMTP is RFC 2033, with LHLO in place of EHLO.

// smtpHello takes the answer to EHLO. Its first line is the server's name; the others begin with a
// keyword each.
func smtpHello(c *Client, line []byte) (bool, error) {
	r, err := c.reply(line)
	if r == nil || err != nil {
		return false, err
	}
	if err := c.expect(r, 250, 500, 502, 504); err != nil {
		return false, err
	}
	name := true
	r.Lines(func(text []byte) {
		if !name {
			c.offer(text, isWord(text, "STARTTLS"))
		}
		name = false
	})
	return c.end()
}

func smtpExchanges(verb string) []exchange {
	return []exchange{
		{phase: Greeting, judge: want(220)},
		{phase: Capabilities, send: hello(verb), judge: smtpHello},
		{phase: StartTLS, send: say("STARTTLS\r\n"), judge: want(220)},
	}
}

func smtpSecure(verb string) []exchange {
	return []exchange{{phase: Secure, send: hello(verb), judge: smtpHello}}
}

func hello(verb string) func(*Params) string {
	return func(p *Params) string { return verb + " " + p.Name + "\r\n" }
}

// smtpServer is the server's role, of SMTP by EHLO and of LMTP by LHLO. In plaintext it takes
// neither mail nor logins (RFC 3207, section 4); over TLS begins a new session (section 4.2).
func smtpServer(verb string) *responder {
	kind := map[string]string{"EHLO": "ESMTP", "LHLO": "LMTP"}[verb]
	return &responder{
		greeting: "220 localhost " + kind + " Whorl\r\n",
		answer: func(s *Server, command []byte) (string, Action) {
			word, argument, _ := strings.Cut(strings.TrimRight(string(command), "\r\n"), " ")
			return smtpAnswer(s, verb, strings.ToUpper(word), strings.TrimSpace(argument))
		},
	}
}

func smtpAnswer(s *Server, hello, verb, argument string) (string, Action) {
	switch verb {
	case hello:
		switch {
		case argument == "":
			return "501 5.5.4 " + verb + " needs a name\r\n", Continue
		case s.secure:
			s.greeted = true
			return "250-localhost\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n", Continue
		}
		return "250-localhost\r\n250-8BITMIME\r\n250 STARTTLS\r\n", Continue
	case "NOOP", "RSET":
		return "250 2.0.0 ok\r\n", Continue
	case "STARTTLS":
		switch {
		case s.secure:
			return "503 5.5.1 TLS is on already\r\n", Continue
		case argument != "":
			return "501 5.5.4 STARTTLS has no parameters\r\n", Continue
		}
		return "220 2.0.0 go ahead\r\n", Upgrade
	case "QUIT":
		return "221 2.0.0 bye\r\n", Hangup
	case "MAIL", "RCPT", "DATA", "AUTH":
		switch {
		case !s.secure:
			return "530 5.7.0 STARTTLS first\r\n", Continue
		case !s.greeted:
			return "503 5.5.1 " + hello + " first\r\n", Continue
		}
		return "554 5.3.0 no mail here\r\n", Continue
	case "HELO":
		if hello == "EHLO" {
			return "250 localhost\r\n", Continue
		}
	}
	return "502 5.5.1 not here\r\n", Continue
}
