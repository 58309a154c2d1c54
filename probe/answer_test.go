//go:build linux

package probe_test

import (
	"bufio"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// asks makes the target a WebSocket, or a page.
func asks(scheme string) func(*probe.Target, *probe.Options) {
	return func(target *probe.Target, _ *probe.Options) {
		target.Scheme, target.Path = scheme,
			"/ws?x=1"
	}
}

// Row 34: TLS is fine, and what is behind it isn't a WebSocket.
func TestAnswersInPlaceOfAWebSocket(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	for answer, test := range map[string]struct {
		id    explain.ID
		words []string
	}{
		"301 Moved\r\nLocation: https://www.mail.test/ws": {probe.IDRedirect,
			[]string{"301", "wss://www.mail.test/ws"}},
		"400 Bad Request":      {probe.IDNotUpgraded, []string{"400", "Upgrade"}},
		"426 Upgrade Required": {probe.IDNotUpgraded, []string{"426"}},
		"200 OK":               {probe.IDNotUpgraded, []string{"200"}},
		"403 Forbidden":        {probe.IDForbidden, []string{"403", "Origin, which was https://"}},
		"404 Not Found":        {probe.IDNotFound, []string{"/ws?x=1"}},
		"500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nno room\nx": {
			probe.IDServerError, []string{"500 Oops: \"no room\" (untrusted)", "log"}},
		"502 Bad Gateway":                     {probe.IDBackend, []string{"502", "proxy"}},
		"504 Late":                            {probe.IDBackend, []string{"504", "proxy"}},
		"418 Teapot":                          {probe.IDNotUpgraded, []string{"418"}},
		"401 Who":                             {probe.IDForbidden, []string{"credentials"}},
		"101 Switching\r\nUpgrade: websocket": {probe.IDWrongAccept, []string{"key"}},
		"junk":                                {probe.IDNoHTTP, []string{"TLS is fine"}},
		"204 None\r\nX: " + strings.Repeat("x", 100<<10): {probe.IDNotUpgraded, []string{"204"}},
		"303 See\r\nLocation: /\x1b[31m": {probe.IDNoHTTP,
			[]string{`"HTTP/1.1 303 See" (untrusted)`, "whole header", "control character"}},
	} {
		t.Run(answer[:3], func(t *testing.T) {
			t.Parallel()
			report := run(t, ca, serve(t, secure(config, func(conn *tls.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if r.RequestURI != "/ws?x=1" || r.Host == "" ||
					r.Header.Get("Upgrade") != "websocket" {
					t.Errorf("%+v", r)
				}
				if answer == "junk" {
					io.WriteString(conn, "junk\r\n\r\n")
					return
				}
				io.WriteString(conn, "HTTP/1.1 "+answer+"\r\n\r\n")
			})), asks("wss"))
			wantOnly(t, report, test.id, append(test.words, "TLS is fine")...)
		})
	}
}

// upgrade accepts a WebSocket, with a subprotocol or without.
func upgrade(conn *tls.Conn, r *http.Request, subprotocol string) {
	sum := sha1.Sum(
		[]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"),
	)
	if subprotocol != "" {
		subprotocol = "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	fmt.Fprintf(
		conn,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"%sSec-WebSocket-Accept: %s\r\n\r\n",
		subprotocol, base64.StdEncoding.EncodeToString(sum[:]),
	)
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	report := run(t, ca, serve(t, secure(with(tlstest.Issued(t, ca, name)), func(conn *tls.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		upgrade(conn, r, "")
	})), asks("wss"))
	wantNothing(t, report)
	if report.Answer == nil || report.Answer.Protocol != "WebSocket" ||
		report.Answer.Status != 101 {
		t.Errorf("%+v", report.Answer)
	}
}

func TestAnswersThatNobodyExpects(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewCA(t)
	config := with(tlstest.Issued(t, ca, name))
	greets := run(t, ca, serve(t, secure(config, func(conn *tls.Conn) {
		io.WriteString(conn, "220 mail.test ESMTP\r\n")
	})))
	wantNothing(t, greets)
	if a := greets.Answer; a == nil || a.Protocol != "SMTP" || a.Text != "220 mail.test ESMTP" {
		t.Errorf("%+v", a)
	}
	page := run(t, ca, serve(t, secure(config, func(conn *tls.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 404 Not Found\r\n\r\n")
		}
	})))
	wantNothing(t, page)
	if a := page.Answer; a == nil || a.Protocol != "HTTP" || a.Status != 404 {
		t.Errorf("%+v", a)
	}
	silent := run(t, ca, serve(t, secure(config, nil)), briefly, asks("https"))
	wantOnly(t, silent, probe.IDNoHTTP, "says nothing")
	moved := run(t, ca, serve(t, secure(config, func(conn *tls.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n")
		}
	})), asks("https"))
	wantNothing(t, moved)
	want(t, moved, probe.IDRedirect, "/login")
}
