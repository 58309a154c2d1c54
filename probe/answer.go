package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// maxAnswer is how much of an answer is looked at.
const maxAnswer = 16 << 10

// answer finds out what is behind TLS. Heard is what the server has said by itself.
func (p *prober) answer(ctx context.Context, s *session, heard []byte) {
	began := time.Now()
	if len(heard) > 0 && p.target.Scheme == "" && p.protocol == nil {
		p.report.Answer = &Answer{Protocol: explain.Protocol(heard), Text: line(heard)}
		p.report.layer(layerAnswer, Passed, p.report.Answer.describe(), began)
		return
	}
	if s.failure != nil {
		finding := p.startTLSFinding(ctx, s.failure)
		p.report.layer(layerAnswer, Failed, finding.Evidence, began)
		p.report.add(finding)
		return
	}
	if p.protocol != nil {
		if able := s.said.Capabilities; len(able) > 0 {
			p.report.Answer = &Answer{
				Protocol: p.target.StartTLS,
				Text: "it can " + text.List(
					able,
					func(s string) string { return text.Printable(s, 40) },
				),
			}
			p.report.layer(layerAnswer, Passed, p.report.Answer.describe(), began)
		}
		return
	}
	key := webSocketKey()
	said := heard
	if _, err := s.client.Send(ctx, p.request(key)); err == nil {
		said = p.untilBlankLine(ctx, s, heard)
	}
	answer, response := readAnswer(said)
	p.report.Answer = answer
	if p.target.Scheme == "" {
		if answer != nil {
			p.report.layer(layerAnswer, Passed, answer.describe(), began)
		}
		return
	}
	findings := judgeAnswer(answer, response, p.target, key)
	status, detail := Passed, ""
	if answer != nil {
		detail = answer.describe()
	}
	for _, finding := range findings {
		p.report.add(finding)
		status, detail = Failed, finding.Evidence
	}
	p.report.layer(layerAnswer, status, detail, began)
}

// probeName is what the probe calls itself where a protocol asks for it. RFC 2606: it is nobody's.
const probeName = "whorl-probe.invalid"

func (a *Answer) describe() string {
	if a.Protocol == "" {
		return fmt.Sprintf("%+q (unknown)", a.Text)
	}
	return a.Protocol + ": " + a.Text
}

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

// request asks for a WebSocket, or where none is expected just for the page.
func (p *prober) request(key string) []byte {
	path := p.target.Path
	if path == "" {
		path = "/"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: whorl-probe\r\nAccept: */*\r\n",
		path, p.hostPort())
	if p.target.Scheme == "https" {
		b.WriteString("Connection: close\r\n\r\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: https://%s\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", p.hostPort(), key)
	return b.Bytes()
}

// untilBlankLine collects what the server says up to the end of a header.
func (p *prober) untilBlankLine(ctx context.Context, s *session, said []byte) []byte {
	until := time.Now().Add(p.options.Timeout)
	for len(said) < maxAnswer && !bytes.Contains(said, []byte("\r\n\r\n")) {
		wait := time.Until(until)
		if p.target.Scheme == "" {
			wait = min(wait, p.patience()) // it may be no HTTP at all
		}
		more, err := s.listen(ctx, wait)
		said = append(said, more...)
		if err != nil || len(more) == 0 {
			break
		}
	}
	return said[:min(len(said), maxAnswer)]
}

// readAnswer reads what came in answer to a request of HTTP. Both are nil if nothing came, and the
// response is if it is no HTTP.
func readAnswer(said []byte) (*Answer, *http.Response) {
	if len(said) == 0 {
		return nil, nil
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), nil)
	if err != nil {
		return &Answer{Protocol: explain.Protocol(said), Text: line(said)}, nil
	}
	response.Body.Close()
	answer := &Answer{
		Protocol: "HTTP", Status: response.StatusCode, Text: line(said),
		Location: text.Printable(response.Header.Get("Location"), text.MaxText),
	}
	if response.StatusCode == http.StatusSwitchingProtocols &&
		strings.EqualFold(response.Header.Get("Upgrade"), "websocket") {
		answer.Protocol = "WebSocket"
	}
	return answer, response
}

// judgeAnswer says what is wrong with an answer, for a target of which HTTP is expected.
func judgeAnswer(answer *Answer, response *http.Response, target Target, key string) []Finding {
	const fine = "TLS is fine; "
	one := func(id explain.ID, evidence string) []Finding {
		return []Finding{found(id, layerAnswer, fine+evidence)}
	}
	switch {
	case answer == nil:
		return one(IDNoHTTP, "the server says nothing")
	case response == nil:
		return one(IDNoHTTP, fmt.Sprintf("the server answers %+q (untrusted)", answer.Text))
	}
	said := "the server answers " + answer.Text
	switch status := answer.Status; {
	case status >= 300 && status < 400 && answer.Location != "":
		findings := one(IDRedirect, said+", to "+answer.Location)
		if target.Scheme == "https" {
			findings[0].Severity = Info
			return findings
		}
		findings[0].Mend = "Connect to " + inScheme(answer.Location) +
			": clients of WebSocket don't follow a redirection."
		return findings
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return one(IDForbidden, said)
	case status == http.StatusNotFound, status == http.StatusGone:
		return one(IDNotFound, said+" for "+text.Quoted(target.Path))
	case status >= 500:
		return one(IDBackend, said)
	case target.Scheme != "wss":
		return nil
	case answer.Protocol != "WebSocket":
		return one(IDNotUpgraded, said+" instead of 101")
	case response.Header.Get("Sec-WebSocket-Accept") != accept(key):
		return one(IDWrongAccept, "the server's Sec-WebSocket-Accept doesn't fit the key")
	}
	return nil
}

// inScheme returns an address of HTTP as one of a WebSocket.
func inScheme(location string) string {
	if rest, ok := strings.CutPrefix(location, "https:"); ok {
		return "wss:" + rest
	}
	if rest, ok := strings.CutPrefix(location, "http:"); ok {
		return "ws:" + rest
	}
	return location
}
