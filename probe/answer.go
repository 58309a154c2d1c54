package probe

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// How much of an answer is looked at, and of the body of an error. Browsers take headers of 256
// KiB.
const (
	maxAnswer = 256 << 10
	maxBody   = 1 << 10
)

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
		said = p.read(ctx, s, heard)
	}
	answer, response, body := readAnswer(said)
	p.report.Answer = answer
	detail := ""
	if answer != nil {
		detail = answer.describe()
	}
	refused, sure := p.withoutCertificate(s, answer, body)
	if refused != nil {
		p.report.add(*refused)
	}
	switch {
	case sure:
		p.report.fail(layerClient, refused.Evidence)
		p.report.layer(layerAnswer, Failed, detail, began)
	case p.target.Scheme != "":
		p.report.step(layerAnswer, detail, p.judgeAnswer(answer, response, key), began)
	case answer != nil:
		p.report.layer(layerAnswer, Passed, detail, began)
	}
}

// probeName is what the probe calls itself where a protocol asks for it. RFC 2606: it is nobody's.
const probeName = "whorl-probe.invalid"

func (a *Answer) describe() string {
	if a.Protocol == "" {
		return fmt.Sprintf("%+q (unknown)", a.Text)
	}
	return a.Protocol + ": " + a.Text
}

// blankLine ends a header.
var blankLine = []byte("\r\n\r\n")

// final returns what was said without the interim responses before it (RFC 9110, section 15.2), of
// which 101 is none.
func final(said []byte) []byte {
	for {
		head, rest, whole := bytes.Cut(said, blankLine)
		if !whole || !interim.Match(head) {
			return said
		}
		said = rest
	}
}

var interim = regexp.MustCompile(`^HTTP/1\.[01] 1(?:0[02-9]|[1-9][0-9]) `)

// complete reports whether there is no need to read on.
func complete(said []byte) bool {
	said = final(said)
	if !bytes.Contains(said, blankLine) {
		return false
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), nil)
	if err != nil || response.StatusCode < 400 {
		return true
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	endless := response.ContentLength < 0 && len(response.TransferEncoding) == 0
	return len(body) == maxBody || err == nil && !endless
}

// readAnswer reads what came in answer to a request of HTTP. Both are nil if nothing came, and the
// response is if it is no HTTP. Body is the beginning of an error's.
func readAnswer(said []byte) (answer *Answer, response *http.Response, body string) {
	if len(said) == 0 {
		return nil, nil, ""
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(said)), nil)
	if err != nil {
		return &Answer{Protocol: explain.Protocol(said), Text: line(said)}, nil, ""
	}
	answer = &Answer{
		Protocol: "HTTP", Status: response.StatusCode, Text: line(said),
		Location: text.Printable(response.Header.Get("Location"), text.MaxText),
	}
	switch {
	case response.StatusCode == http.StatusSwitchingProtocols &&
		strings.EqualFold(response.Header.Get("Upgrade"), "websocket"):
		answer.Protocol = "WebSocket"
		answer.Subprotocol = text.Printable(response.Header.Get("Sec-WebSocket-Protocol"),
			text.MaxName)
	case response.StatusCode >= 400:
		read, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
		body = string(read)
		answer.Body = headline(response.Header.Get("Content-Type"), body)
	}
	return answer, response, body
}

// title finds that of a page.
var title = regexp.MustCompile(`(?is)<title[^>]*>\s*([^<]*)`)

// headline returns the first line of a text, or the title of a page.
func headline(kind, body string) string {
	switch kind, _, _ = strings.Cut(kind, ";"); {
	case strings.HasSuffix(kind, "html"):
		found := title.FindStringSubmatch(body)
		if found == nil {
			return ""
		}
		body = strings.Join(strings.Fields(html.UnescapeString(found[1])), " ")
	case !strings.HasPrefix(kind, "text/") && !strings.HasSuffix(kind, "json"):
		return ""
	}
	return text.Printable(line([]byte(strings.TrimSpace(body))), 100)
}

// said is how the server's answer is cited.
func (a *Answer) said() string {
	if a.Body == "" {
		return a.Text
	}
	return fmt.Sprintf("%s: %+q (untrusted)", a.Text, a.Body)
}

// withoutCertificate judges an answer by which a server may refuse whoever has no certificate, or
// not the right one. TLS can ask for it and leave it to the program behind what to do then, as
// nginx does. Sure says that it is nothing else; finding is nil if it can't be that.
func (p *prober) withoutCertificate(
	s *session, answer *Answer, body string,
) (finding *Finding, sure bool) {
	if s.asked == nil || answer == nil {
		return nil, false
	}
	switch answer.Status {
	case 495, 496: // nginx's own
		sure = true
	case http.StatusBadRequest, http.StatusForbidden:
		sure = strings.Contains(body, "No required SSL certificate was sent") || // nginx
			strings.Contains(body, "The SSL certificate error") ||
			strings.Contains(body, "403.7") // IIS
	case http.StatusUnauthorized:
	default:
		return nil, false
	}
	if s.shown && !sure {
		return nil, false
	}
	then := "and answers " + answer.said()
	if !sure {
		then += ", which may be for lack of it"
	}
	refused := explained(p.wantsCertificate(s, then), layerClient)
	refused.Evidence += s.wanted()
	if !sure {
		refused.Severity = Warning
	}
	return &refused, sure
}

// judgeAnswer says what is wrong with an answer, for a target of which HTTP is expected.
func (p *prober) judgeAnswer(answer *Answer, response *http.Response, key string) []Finding {
	const fine = "TLS is fine; "
	target := p.target
	one := func(id explain.ID, evidence string) []Finding {
		return []Finding{found(id, layerAnswer, fine+evidence)}
	}
	switch {
	case answer == nil:
		return one(IDNoHTTP, "the server says nothing")
	case response == nil && answer.Protocol == "HTTP":
		findings := one(IDNoHTTP, fmt.Sprintf("the server answers %+q (untrusted), and behind that "+
			"there is no whole header of HTTP", answer.Text))
		findings[0].Mend = "Look at the header that the server sends: a control character or a " +
			"broken line in it, or no end."
		return findings
	case response == nil:
		return one(IDNoHTTP, fmt.Sprintf("the server answers %+q (untrusted)", answer.Text))
	}
	said := "the server answers " + answer.said()
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
		findings := one(IDForbidden, said)
		findings[0].Mend = "Send the credentials that the server wants in a header"
		if origin := p.header().Get("Origin"); origin != "" && status == http.StatusForbidden {
			findings[0].Mend += ", or let it accept the Origin, which was " +
				text.Printable(origin, text.MaxText)
		}
		findings[0].Mend += "."
		return findings
	case status == http.StatusNotFound, status == http.StatusGone:
		return one(IDNotFound, said+" for "+text.Quoted(target.Path))
	case status >= 502 && status <= 504, status >= 520 && status <= 527: // the latter Cloudflare's
		return one(IDBackend, said)
	case status >= 500:
		return one(IDServerError, said)
	case target.Scheme == "wss":
		return p.judgeUpgrade(answer, response, key, one)
	case status < 200 || status >= 300:
		return one(IDNoPage, said)
	}
	return nil
}

// judgeUpgrade says what is wrong with an answer in place of a WebSocket.
func (p *prober) judgeUpgrade(
	answer *Answer, response *http.Response, key string, one func(explain.ID, string) []Finding,
) []Finding {
	offered, chosen := p.options.Subprotocols, answer.Subprotocol
	switch {
	case answer.Protocol != "WebSocket":
		return one(IDNotUpgraded, "the server answers "+answer.said()+" instead of 101")
	case response.Header.Get("Sec-WebSocket-Accept") != accept(key):
		return one(IDWrongAccept, "the server's Sec-WebSocket-Accept doesn't fit the key")
	case chosen == "" && len(offered) > 0:
		return one(IDSubprotocol, "the server chose none of the subprotocols "+
			text.List(offered, text.Quoted))
	case chosen != "" && !slices.Contains(offered, chosen):
		findings := one(IDSubprotocol, "the server chose the subprotocol "+text.Quoted(chosen)+
			", which was not offered")
		findings[0].Severity = Error // RFC 6455, section 4.1: the client has to hang up
		return findings
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
