package dialogue

// ManageSieve is RFC 5804. Its server lists what it can do without being asked: at the beginning,
// and again over TLS.

func sieveList(c *Client, line []byte) (bool, error) {
	if len(line) > 0 && line[0] == '"' {
		c.offer(line, isWord(line, `"STARTTLS"`))
		return false, nil
	}
	if last, err := sieveReply(c, line); err != nil || !last {
		return false, err
	}
	return c.end()
}

func sieveReply(c *Client, line []byte) (bool, error) {
	if _, ok := cutFold(line, "OK"); ok {
		return true, nil
	}
	for _, no := range []string{"NO", "BYE"} {
		if _, ok := cutFold(line, no); ok {
			return false, c.fail(ErrRefused, 0, "", line)
		}
	}
	return false, c.broken("that is no response", line)
}

var (
	sievePlain = []exchange{
		{phase: Greeting, judge: sieveList},
		{phase: StartTLS, send: say("STARTTLS\r\n"), judge: sieveReply},
	}
	sieveSecure = []exchange{{phase: Secure, judge: sieveList}}
)
