package dialogue

// LDAP's StartTLS is an extended operation, RFC 4511, section 4.14. Messages are in BER.

// ldapRequest is an ExtendedRequest with number 1 and StartTLS's name.
const ldapRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + "1.3.6.1.4.1.1466.20037"

// ldapSearch asks with number 2 for the root DSE, RFC 4512, section 5.1, and none of its
// attributes.
const ldapSearch = "\x30\x2a\x02\x01\x02\x63\x25\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x01" +
	"\x02\x01\x00\x01\x01\x00\x87\x0bobjectClass\x30\x05\x04\x031.1"

const (
	berInteger     = 0x02
	berOctets      = 0x04
	berEnumerated  = 0x0a
	berSequence    = 0x30
	ldapExtended   = 0x78 // ExtendedResponse
	ldapMost       = 4096 // bytes of a response
	ldapNoProtocol = 2    // protocolError: it doesn't know the operation
)

// element takes the element that data begins with. It has a definite length; short says that data
// isn't all of it, bad that it can't become any.
func element(data []byte) (tag byte, content, rest []byte, short, bad bool) {
	if len(data) < 2 {
		return 0, nil, nil, true, false
	}
	tag, length, from := data[0], int(data[1]), 2
	if length >= 0x80 { // the long form: so many bytes with the length
		from += length & 0x7f
		if from < 3 || from > 6 {
			return 0, nil, nil, false, true
		}
		if len(data) < from {
			return 0, nil, nil, true, false
		}
		length = 0
		for _, b := range data[2:from] {
			length = length<<8 | int(b)
		}
	}
	switch {
	case length < 0 || length > ldapMost:
		return 0, nil, nil, false, true
	case len(data)-from < length:
		return 0, nil, nil, true, false
	}
	return tag, data[from : from+length], data[from+length:], false, false
}

// ldapAnswer takes the ExtendedResponse. A server that closes says so in one with number 0 (notice
// of disconnection, section 4.4.1).
func ldapAnswer(c *Client, data []byte) (int, error) {
	if len(data) > 0 && data[0] != berSequence {
		return 0, c.broken("that is no message", data)
	}
	_, message, rest, short, bad := element(data)
	switch {
	case bad:
		return 0, c.broken("that is no message", data)
	case short:
		return 0, nil
	}
	n := len(data) - len(rest)
	number, response, ok := ldapMessage(message)
	if !ok || number > 1 {
		return 0, c.broken("that is no answer to StartTLS", data[:n])
	}
	code, text, ok := ldapResult(response)
	switch {
	case !ok:
		return 0, c.broken("that is no answer to StartTLS", data[:n])
	case number == 0:
		return 0, c.fail(ErrRefused, code, "it closes the connection", text)
	case code == ldapNoProtocol:
		return 0, c.fail(ErrNotOffered, code, "", text)
	case code != 0:
		return 0, c.fail(ErrRefused, code, "", text)
	}
	return n, nil
}

// ldapMessage takes a message apart: its number, which is small, and an ExtendedResponse.
func ldapMessage(message []byte) (number int, response []byte, ok bool) {
	number, message, ok = small(message, berInteger)
	if !ok {
		return 0, nil, false
	}
	tag, response, _, short, bad := element(message)
	return number, response, tag == ldapExtended && !short && !bad
}

// ldapResult takes an LDAPResult: its code, a name that doesn't matter, and the text.
func ldapResult(response []byte) (code int, text []byte, ok bool) {
	code, response, ok = small(response, berEnumerated)
	if !ok {
		return 0, nil, false
	}
	for range 2 {
		var tag byte
		var short, bad bool
		tag, text, response, short, bad = element(response)
		if tag != berOctets || short || bad {
			return 0, nil, false
		}
	}
	return code, text, true
}

// small takes a number of one byte.
func small(data []byte, want byte) (value int, rest []byte, ok bool) {
	tag, content, rest, short, bad := element(data)
	if tag != want || short || bad || len(content) != 1 {
		return 0, nil, false
	}
	return int(content[0]), rest, true
}

var ldapPlain = []exchange{{phase: StartTLS, send: say(ldapRequest), whole: ldapAnswer}}
