package dialogue

import "bytes"

// IRC has STARTTLS by the convention of https://ircv3.net/specs/extensions/tls: before the client
// registers. A server may say something before that.

func ircReply(c *Client, line []byte) (bool, error) {
	command := line
	if len(line) > 0 && line[0] == ':' { // who says it
		_, command, _ = bytes.Cut(line, []byte(" "))
	}
	word, _, _ := bytes.Cut(command, []byte(" "))
	switch string(word) {
	case "670":
		return true, nil
	case "691":
		return false, c.fail(ErrRefused, 691, "", line)
	case "421":
		return false, c.fail(ErrNotOffered, 421, "", line)
	case "451":
		return false, c.fail(ErrNotOffered, 451, "", line)
	case "ERROR":
		return false, c.fail(ErrRefused, 0, "", line)
	case "NOTICE", "020":
		return false, nil
	}
	return false, c.broken("that is no answer to STARTTLS", line)
}

var ircPlain = []exchange{{phase: StartTLS, send: say("STARTTLS\r\n"), judge: ircReply}}
