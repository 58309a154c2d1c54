package dialogue

import "github.com/whorl-go/whorl/internal/reply"

// reply takes a line of a reply with a code, of SMTP, LMTP, FTP or NNTP. It returns the reply that
// the line completes, or nil.
func (c *Client) reply(line []byte) (*reply.Reply, error) {
	r, err := c.replies.Line(line[:len(line)+len("\r\n")]) // which lineOf has found there
	if err != nil {
		return nil, c.broken("that is no reply", line)
	}
	return r, nil
}

// want is the judge of replies that are to have this code. Those with a code of missing, if any,
// say that the server doesn't know the command.
func want(code int, missing ...int) func(*Client, []byte) (bool, error) {
	return func(c *Client, line []byte) (bool, error) {
		r, err := c.reply(line)
		if r == nil || err != nil {
			return false, err
		}
		return true, c.expect(r, code, missing...)
	}
}

// expect is the error of a reply that has another code, if it has.
func (c *Client) expect(r *reply.Reply, code int, missing ...int) error {
	if r.Code == code {
		return nil
	}
	err, why := ErrProtocol, "another code was wanted"
	if r.Code >= 400 {
		err, why = ErrRefused, ""
	}
	if !c.secure {
		for _, m := range missing {
			if r.Code == m {
				err, why = ErrNotOffered, "it doesn't know the command"
			}
		}
	}
	return c.fail(err, r.Code, why, []byte(r.String()))
}
