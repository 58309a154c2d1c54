package handshake

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// The extension and its parameters (RFC 7692, section 7.1).
const (
	extensionDeflate = "permessage-deflate"
	serverNoTakeover = "server_no_context_takeover"
	clientNoTakeover = "client_no_context_takeover"
	serverMaxBits    = "server_max_window_bits"
	clientMaxBits    = "client_max_window_bits"
)

const (
	maxBits = 15
	// leastBits is the smallest window that is asked for. The standard has 8, but zlib can't
	// compress with less than 9, so that many peers fail or do something else.
	leastBits = 9
)

// terms are the parameters of one offer or answer.
type terms struct {
	serverNoTakeover, clientNoTakeover bool
	serverBits, clientBits             int  // 0 if the parameter isn't there
	clientBitsOpen                     bool // client_max_window_bits without a value
}

// readTerms reads the parameters of permessage-deflate. Only in an offer may client_max_window_bits
// be without a value. An unknown parameter, one that comes twice, and a value where there must be
// none, or one outside of 8 to 15, make all of them void.
func readTerms(params []param, offer bool) (terms, error) {
	var t terms
	seen := make(map[string]bool, 4)
	for _, p := range params {
		if seen[p.name] {
			return t, fmt.Errorf("%s comes twice", p.name)
		}
		seen[p.name] = true
		switch p.name {
		case serverNoTakeover, clientNoTakeover:
			if p.hasValue {
				return t, fmt.Errorf("%s has a value, %.100q", p.name, p.value)
			}
			t.serverNoTakeover = t.serverNoTakeover || p.name == serverNoTakeover
			t.clientNoTakeover = t.clientNoTakeover || p.name == clientNoTakeover
		case serverMaxBits, clientMaxBits:
			if p.name == clientMaxBits && offer && !p.hasValue {
				t.clientBitsOpen = true
				continue
			}
			bits, ok := readBits(p.value)
			if !ok {
				return t, fmt.Errorf("%s is %.100q and not 8 to 15", p.name, p.value)
			}
			if p.name == serverMaxBits {
				t.serverBits = bits
			} else {
				t.clientBits = bits
			}
		default:
			return t, fmt.Errorf("%.100q is no parameter of %s", p.name, extensionDeflate)
		}
	}
	return t, nil
}

// readBits reads a decimal number from 8 to 15 without leading zeros.
func readBits(s string) (int, bool) {
	if n := len(s); n == 0 || n > 2 || s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return int(n), err == nil && n >= 8 && n <= maxBits
}

func (t terms) String() string {
	var b strings.Builder
	b.WriteString(extensionDeflate)
	if t.serverNoTakeover {
		b.WriteString("; " + serverNoTakeover)
	}
	if t.clientNoTakeover {
		b.WriteString("; " + clientNoTakeover)
	}
	if t.serverBits != 0 {
		fmt.Fprintf(&b, "; %s=%d", serverMaxBits, t.serverBits)
	}
	if t.clientBits != 0 {
		fmt.Fprintf(&b, "; %s=%d", clientMaxBits, t.clientBits)
	} else if t.clientBitsOpen {
		b.WriteString("; " + clientMaxBits)
	}
	return b.String()
}

// limit is the most that an end does; 0 bits stand for 15.
func limit(most engine.Deflate) engine.Deflate {
	for _, bits := range []*int{&most.SendBits, &most.ReceiveBits} {
		if *bits == 0 {
			*bits = maxBits
		}
		*bits = min(max(*bits, 8), maxBits)
	}
	return most
}

// Answer is the server's answer to the offers of compression in a request's headers: of the first
// offer that it can take (RFC 7692, section 5). It returns what both ends will do, from the
// server's end, and the value for Sec-WebSocket-Extensions. ok is false if there is nothing to
// agree on; the header isn't sent then.
//
// most is the most that the server does: its windows, of which 0 stands for 15 bits, and the
// takeovers that it allows. If a client can't be asked for a smaller window, it is asked not to
// take it over, so that no more is kept than most allows.
func Answer(h http.Header, most engine.Deflate) (agreed engine.Deflate, header string, ok bool) {
	most = limit(most)
	offers, _ := extensions(h)
	for _, offer := range offers {
		if offer.name != extensionDeflate {
			continue
		}
		t, err := readTerms(offer.params, true)
		if err != nil {
			continue
		}
		agreed, t = answer(t, most)
		return agreed, t.String(), true
	}
	return engine.Deflate{}, "", false
}

// answer takes an offer.
func answer(offer terms, most engine.Deflate) (engine.Deflate, terms) {
	agreed := engine.Deflate{
		SendBits:        most.SendBits,
		ReceiveBits:     maxBits,
		SendTakeover:    most.SendTakeover && !offer.serverNoTakeover,
		ReceiveTakeover: most.ReceiveTakeover && !offer.clientNoTakeover,
	}
	if offer.serverBits != 0 {
		agreed.SendBits = min(agreed.SendBits, offer.serverBits)
	}
	switch most := max(most.ReceiveBits, leastBits); {
	case offer.clientBits != 0:
		agreed.ReceiveBits = min(most, offer.clientBits)
	case offer.clientBitsOpen:
		agreed.ReceiveBits = most
	case most < maxBits:
		agreed.ReceiveTakeover = false
	}
	t := terms{
		serverNoTakeover: !agreed.SendTakeover,
		clientNoTakeover: !agreed.ReceiveTakeover,
	}
	if offer.serverBits != 0 {
		t.serverBits = agreed.SendBits
	}
	if agreed.ReceiveBits < maxBits {
		t.clientBits = agreed.ReceiveBits
	}
	return agreed, t
}

// Offer is the client's offer of compression, for Sec-WebSocket-Extensions. most is the most that
// the client does: its windows, of which 0 stands for 15 bits, and the takeovers that it allows.
func Offer(most engine.Deflate) string { return offer(limit(most)).String() }

func offer(most engine.Deflate) terms {
	t := terms{
		serverNoTakeover: !most.ReceiveTakeover,
		clientNoTakeover: !most.SendTakeover,
		clientBitsOpen:   true,
	}
	if most.ReceiveBits < maxBits {
		t.serverBits = max(most.ReceiveBits, leastBits)
	}
	if most.SendBits < maxBits {
		t.clientBits = most.SendBits
	}
	return t
}

// Agree is the client's check of the extensions in a server's response. It returns what both ends
// will do, from the client's end, or nil if the server has taken none. most is what went into
// [Offer], nil if nothing was offered. An extension or a parameter that wasn't offered, or that is
// wider than offered, and the lack of one by which the server would have taken the offer, are a
// *[ResponseError]: the client has to end the connection (RFC 7692, section 7.1).
func Agree(h http.Header, most *engine.Deflate) (*engine.Deflate, error) {
	fail := func(format string, args ...any) (*engine.Deflate, error) {
		return nil, &ResponseError{
			Layer:  LayerExtensions,
			Reason: fmt.Sprintf("Sec-WebSocket-Extensions: "+format, args...),
		}
	}
	answers, ok := extensions(h)
	if !ok {
		return fail("%.100q is malformed", strings.Join(h[headerExtensions], ", "))
	}
	if len(answers) == 0 {
		return nil, nil
	}
	if most == nil || answers[0].name != extensionDeflate {
		return fail("%.100q wasn't offered", answers[0].name)
	}
	if len(answers) > 1 {
		return fail("%.100q in addition", answers[1].name)
	}
	t, err := readTerms(answers[0].params, false)
	if err != nil {
		return fail("%v", err)
	}
	able := limit(*most)
	offered := offer(able)
	agreed := engine.Deflate{
		SendBits:        able.SendBits,
		ReceiveBits:     maxBits,
		SendTakeover:    able.SendTakeover && !t.clientNoTakeover,
		ReceiveTakeover: !t.serverNoTakeover,
	}
	switch {
	case offered.serverNoTakeover && !t.serverNoTakeover:
		return fail("%s was offered and isn't there", serverNoTakeover)
	case offered.serverBits != 0 && t.serverBits == 0:
		return fail("%s was offered and isn't there", serverMaxBits)
	case offered.serverBits != 0 && t.serverBits > offered.serverBits:
		return fail("%s is %d, of %d offered", serverMaxBits, t.serverBits, offered.serverBits)
	case offered.clientBits != 0 && t.clientBits > offered.clientBits:
		return fail("%s is %d, of %d offered", clientMaxBits, t.clientBits, offered.clientBits)
	}
	if t.serverBits != 0 {
		agreed.ReceiveBits = t.serverBits
	}
	if t.clientBits != 0 {
		agreed.SendBits = t.clientBits
	}
	return &agreed, nil
}
