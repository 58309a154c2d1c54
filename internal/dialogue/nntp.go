package dialogue

// NNTP is RFC 4642 on RFC 3977. Its replies have one line.

func nntpGreeting(c *Client, line []byte) (bool, error) {
	r, err := c.reply(line)
	switch {
	case err != nil:
		return false, err
	case r == nil:
		return false, c.broken("a greeting of several lines", line)
	case r.Code == 201: // who may not post may have TLS
		return true, nil
	}
	return true, c.expect(r, 200)
}

func nntpReply(code int, missing ...int) func(*Client, []byte) (bool, error) {
	judge := want(code, missing...)
	return func(c *Client, line []byte) (bool, error) {
		last, err := judge(c, line)
		if err == nil && !last {
			err = c.broken("a reply of several lines", line)
		}
		return last, err
	}
}

var nntpBegins = nntpReply(101, 500)

// nntpList takes a list that ends with a dot. In RFC 977 there was none.
func nntpList(c *Client, line []byte) (bool, error) {
	if c.lines == 1 {
		_, err := nntpBegins(c, line)
		return false, err
	}
	if string(line) == "." {
		return c.end()
	}
	c.offer(line, isWord(line, "STARTTLS"))
	return false, nil
}

var (
	nntpPlain = []exchange{
		{phase: Greeting, judge: nntpGreeting},
		{phase: Capabilities, send: say("CAPABILITIES\r\n"), judge: nntpList},
		{phase: StartTLS, send: say("STARTTLS\r\n"), judge: nntpReply(382)},
	}
	nntpSecure = []exchange{{phase: Secure, send: say("CAPABILITIES\r\n"), judge: nntpList}}
)
