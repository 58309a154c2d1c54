package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// checkRequest returns an error if Header or Subprotocols can't be sent to a target of that scheme.
func (o *Options) checkRequest(scheme string) error {
	if len(o.Header) > 0 && scheme == "" {
		return wrong("Header", errors.New("a header is for targets with https:// or wss://"))
	}
	if len(o.Subprotocols) > 0 && scheme != "wss" {
		return wrong("Subprotocols", errors.New("subprotocols are for targets with wss://"))
	}
	for name, values := range o.Header {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return wrong("Header", fmt.Errorf("%q is no name of a header", name))
		case strings.HasPrefix(canonical, "Sec-Websocket-"), slices.Contains([]string{
			"Connection", "Upgrade", "Content-Length", "Transfer-Encoding",
		}, canonical):
			return wrong("Header", fmt.Errorf("%s is set by the probe", name))
		case slices.ContainsFunc(values, invalid): // the value may be a secret
			return wrong("Header", fmt.Errorf("%s has a control character in its value", name))
		}
	}
	for _, name := range o.Subprotocols {
		if !httpguts.ValidHeaderFieldName(name) { // a token, too
			return wrong("Subprotocols", fmt.Errorf("%q is no name of a subprotocol", name))
		}
	}
	return nil
}

func invalid(value string) bool { return !httpguts.ValidHeaderFieldValue(value) }

// webSocketKey returns the 16 random bytes of a handshake. RFC 6455, section 4.1.
func webSocketKey() string {
	key := make([]byte, 16)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// accept is the answer to a key. RFC 6455, section 4.2.2.
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// secret reports whether the request has something that may be.
func (p *prober) secret() bool {
	return len(p.options.Header) > 0 || strings.Contains(p.target.Path, "?")
}

// verified reports whether the server's certificate has been judged, and found to be in order.
func (p *prober) verified() bool {
	passed := 0
	for _, layer := range p.report.Layers {
		if layer.Status == Passed &&
			slices.Contains([]string{layerChain, layerName, layerDates}, layer.Name) {
			passed++
		}
	}
	return passed == 3
}

// header is what is sent with a request but for the host.
func (p *prober) header() http.Header {
	header := http.Header{"User-Agent": {"whorl-probe"}, "Accept": {"*/*"}}
	if p.target.Scheme != "https" {
		header.Set("Origin", "https://"+p.hostPort())
	}
	for name, values := range p.options.Header {
		header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	return header
}

// request asks for a WebSocket, or where none is expected just for the page.
func (p *prober) request(key string) []byte {
	path, host, header := p.target.Path, p.hostPort(), p.header()
	if path == "" {
		path = "/"
	}
	if other := header.Get("Host"); other != "" {
		host = other
	}
	header.Del("Host")
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, host)
	header.Write(&b)
	if p.target.Scheme == "https" {
		b.WriteString("Connection: close\r\n\r\n")
		return b.Bytes()
	}
	b.WriteString("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
	if names := p.options.Subprotocols; len(names) > 0 {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(names, ", "))
	}
	fmt.Fprintf(&b, "Sec-WebSocket-Key: %s\r\n\r\n", key)
	return b.Bytes()
}

// read collects what the server answers: a header, and of an error the beginning of its body.
func (p *prober) read(ctx context.Context, s *session, said []byte) []byte {
	until := time.Now().Add(p.options.Timeout)
	for len(said) < maxAnswer && !complete(said) {
		wait := time.Until(until)
		if p.target.Scheme == "" || bytes.Contains(final(said), blankLine) {
			wait = min(wait, p.patience()) // it may be no HTTP at all, and a body may have no end
		}
		more, err := s.listen(ctx, wait)
		said = append(said, more...)
		if err != nil || len(more) == 0 {
			break
		}
	}
	return final(said[:min(len(said), maxAnswer)])
}
