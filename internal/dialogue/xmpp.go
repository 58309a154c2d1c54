package dialogue

import (
	"bytes"
	"encoding/xml"
)

// XMPP is RFC 6120, section 5. Where an element ends is found by its tags, each of which is looked
// at once, or if it comes in pieces, as often as it does; what the element says then tells package
// xml.

const (
	xmppStreams = "http://etherx.jabber.org/streams"
	xmppTLS     = "urn:ietf:params:xml:ns:xmpp-tls"
	maxTag      = 2048
)

// xmppHeader opens a stream to a domain, whose name has no character that XML gives a meaning.
func xmppHeader(space string) func(*Params) string {
	return func(p *Params) string {
		return "<?xml version='1.0'?><stream:stream xmlns:stream='" + xmppStreams + "' xmlns='" +
			space + "' to='" + p.Domain + "' version='1.0'>"
	}
}

func xmppExchanges(space string) []exchange {
	return []exchange{
		{phase: Capabilities, send: xmppHeader(space), whole: xmppFeatures},
		{phase: StartTLS, send: say("<starttls xmlns='" + xmppTLS + "'/>"), whole: xmppProceed},
	}
}

// xmppFeatures takes the server's stream header and its first element, which has to be the list of
// features.
func xmppFeatures(c *Client, data []byte) (int, error) {
	n, err := c.elementEnd(data, 1)
	if n == 0 || err != nil {
		return 0, err
	}
	names, err := xmlNames(data[:n])
	header := xml.Name{Space: xmppStreams, Local: "stream"}
	switch {
	case err != nil || len(names) < 2 || names[0].Name != header:
		return 0, c.broken("that is no stream", data[:n])
	case names[1].Name == xml.Name{Space: xmppStreams, Local: "error"}:
		return 0, c.fail(ErrRefused, 0, "", data[names[1].at:n])
	case names[1].Name != xml.Name{Space: xmppStreams, Local: "features"}:
		return 0, c.broken("that is no list of features", data[names[1].at:n])
	}
	for _, name := range names[2:] {
		wish := xml.Name{Space: xmppTLS, Local: "starttls"}
		c.offered = c.offered || name.depth == 2 && name.Name == wish
	}
	_, err = c.end()
	return n, err
}

func xmppProceed(c *Client, data []byte) (int, error) {
	n, err := c.elementEnd(data, 0)
	if n == 0 || err != nil {
		return 0, err
	}
	names, err := xmlNames(data[:n])
	switch {
	case err != nil || len(names) == 0 || names[0].Space != xmppTLS:
		return 0, c.broken("that is no answer to starttls", data[:n])
	case names[0].Local == "proceed":
		return n, nil
	case names[0].Local == "failure":
		return 0, c.fail(ErrRefused, 0, "", data[:n])
	}
	return 0, c.broken("that is no answer to starttls", data[:n])
}

// elementEnd returns where the first element ends that is so deep, 0 if it isn't there yet. XMPP
// has neither comments nor instructions nor declarations but that of XML, and only blanks between
// elements (RFC 6120, section 11).
func (c *Client) elementEnd(data []byte, depth int) (int, error) {
	for {
		text, rest, found := bytes.Cut(data[c.scanned:], []byte("<"))
		if c.depth <= depth && len(bytes.Trim(text, " \t\r\n")) > 0 {
			return 0, c.broken("that is no XML", data)
		}
		c.scanned += len(text)
		if !found {
			return 0, nil
		}
		length := tagEnd(rest)
		if length == 0 && len(rest) < maxTag {
			return 0, nil // the rest of the tag is to come
		}
		at := c.scanned
		if length == 0 || length > maxTag {
			return 0, c.broken("a tag without end", data[at:])
		}
		c.scanned += len("<") + length
		tag := rest[:length-len(">")]
		switch {
		case bytes.HasPrefix(tag, []byte("?xml ")) && at == 0 && depth > 0:
			continue
		case len(tag) == 0 || tag[0] == '?' || tag[0] == '!':
			return 0, c.broken("that has no place in XMPP", data[at:])
		case tag[0] == '/':
			c.depth--
		case tag[len(tag)-1] != '/':
			c.depth++
			continue
		}
		switch {
		case c.depth == depth:
			return c.scanned, nil
		case c.depth < depth:
			return 0, c.fail(ErrRefused, 0, "it closes the stream", data)
		}
	}
}

// tagEnd returns the length of a tag with its '>', which is not one within quotes; 0 if it has no
// end yet.
func tagEnd(data []byte) int {
	var quote byte
	for i, b := range data {
		switch {
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '"', b == '\'':
			quote = b
		case b == '>':
			return i + 1
		}
	}
	return 0
}

type xmlName struct {
	xml.Name
	depth, at int
}

// xmlNames returns the names of all elements, in order, with how deep they are and where.
func xmlNames(data []byte) (names []xmlName, err error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		at := int(d.InputOffset())
		if at == len(data) {
			return names, nil
		}
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			names = append(names, xmlName{token.Name, depth, at})
			depth++
		case xml.EndElement:
			depth--
		}
	}
}
