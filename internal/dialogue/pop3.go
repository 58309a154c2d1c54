package dialogue

import "strings"

// POP3 is RFC 2595 on RFC 1939 and RFC 2449.

func pop3Reply(c *Client, line []byte) (bool, error) {
	if _, ok := pop3Word(line, "+OK"); ok {
		return true, nil
	}
	if _, ok := pop3Word(line, "-ERR"); ok {
		return false, c.fail(ErrRefused, 0, "", line)
	}
	return false, c.broken("that is no reply", line)
}

// pop3Word is cutFold for words that are in upper case.
func pop3Word(line []byte, word string) (rest []byte, ok bool) {
	if !strings.HasPrefix(string(line), word) {
		return nil, false
	}
	return cutFold(line, word)
}

// pop3Capabilities takes a list that ends with a dot. A server that has no CAPA has no STLS.
func pop3Capabilities(c *Client, line []byte) (bool, error) {
	if c.lines == 1 {
		if _, refused := pop3Word(line, "-ERR"); refused && !c.secure {
			return false, c.fail(ErrNotOffered, 0, "it has no CAPA", line)
		}
		_, err := pop3Reply(c, line)
		return false, err
	}
	if string(line) == "." {
		return c.end()
	}
	c.offer(line, isWord(line, "STLS"))
	return false, nil
}

var (
	pop3Plain = []exchange{
		{phase: Greeting, judge: pop3Reply},
		{phase: Capabilities, send: say("CAPA\r\n"), judge: pop3Capabilities},
		{phase: StartTLS, send: say("STLS\r\n"), judge: pop3Reply},
	}
	pop3Secure = []exchange{{phase: Secure, send: say("CAPA\r\n"), judge: pop3Capabilities}}
	pop3Server = &responder{greeting: "+OK Whorl\r\n", answer: pop3Answer}
)

func pop3Answer(s *Server, command []byte) (string, Action) {
	verb, argument, _ := strings.Cut(strings.TrimRight(string(command), "\r\n"), " ")
	switch strings.ToUpper(verb) {
	case "CAPA":
		if s.secure {
			return "+OK\r\nUSER\r\n.\r\n", Continue
		}
		return "+OK\r\nSTLS\r\n.\r\n", Continue
	case "STLS":
		if s.secure || argument != "" {
			return "-ERR not so\r\n", Continue
		}
		return "+OK begin\r\n", Upgrade
	case "NOOP":
		return "-ERR not yet\r\n", Continue // RFC 1939: in the transaction state only
	case "QUIT":
		return "+OK bye\r\n", Hangup
	}
	if s.secure {
		return "-ERR nobody has a mailbox here\r\n", Continue
	}
	return "-ERR STLS first\r\n", Continue
}
