package handshake

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// The example of RFC 6455, section 1.2.
const (
	exampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	exampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

const example = "GET /chat HTTP/1.1\r\n" +
	"Host: server.example.com\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Origin: http://example.com\r\n" +
	"Sec-WebSocket-Protocol: chat, superchat\r\n" +
	"Sec-WebSocket-Version: 13\r\n\r\n"

func request(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func response(t testing.TB, text string) *http.Response {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestExampleOfTheRFC(t *testing.T) {
	r := request(t, example)
	if !IsUpgrade(r) {
		t.Error("no upgrade")
	}
	if err := Check(r); err != nil {
		t.Error(err)
	}
	if got := Accept(Key(r)); got != exampleAccept {
		t.Errorf("Accept is %q", got)
	}
	if got := Protocols(r.Header); !reflect.DeepEqual(got, []string{"chat", "superchat"}) {
		t.Errorf("subprotocols %q", got)
	}
	if err := CheckResponse(response(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Accept: "+exampleAccept+"\r\n\r\n"), exampleKey); err != nil {
		t.Error(err)
	}
}

// RFC 6455, section 4.2.1: each change of the example, and what comes of it. Status 0: let in.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		old, new string
		status   int
	}{
		{"", "", 0},
		{"GET /chat HTTP/1.1", "POST /chat HTTP/1.1", 405},
		{"GET /chat HTTP/1.1", "HEAD /chat HTTP/1.1", 405},
		{"GET /chat HTTP/1.1", "GET /chat HTTP/1.0", 400},
		{"Host: server.example.com", "Host: ", 400},
		{"Upgrade: websocket", "Upgrade: WebSocket", 0},
		{"Upgrade: websocket", "Upgrade: websocket, abc", 0},
		{"Upgrade: websocket", "Upgrade: abc ,\twebSocket", 0},
		{"Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket", 0},
		{"Upgrade: websocket", "Upgrade: websockets", 426},
		{"Upgrade: websocket", "Upgrade: web socket", 426},
		{"Upgrade: websocket", "Upgrade: h2c", 426},
		{"Upgrade: websocket\r\n", "", 426},
		{"Connection: Upgrade", "Connection: upgrade", 0},
		{"Connection: Upgrade", "Connection: keep-alive, Upgrade", 0},
		{"Connection: Upgrade", "Connection: Upgrade, abc", 0},
		{"Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade", 0},
		{"Connection: Upgrade", "Connection: keep-alive", 400},
		{"Connection: Upgrade\r\n", "", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key:   dGhlIHNhbXBsZSBub25jZQ==  ", 0},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZQ", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZSEh", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub24=", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZ!==", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: ", 400},
		{"Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400},
		{"Version: 13", "Version: 8", 426},
		{"Version: 13", "Version: 13, 8", 426},
		{"Version: 13", "Version: 013", 426},
		{"Version: 13", "Version: ", 426},
		{"Sec-WebSocket-Version: 13\r\n", "", 426},
	} {
		r := request(t, strings.Replace(example, c.old, c.new, 1))
		err := Check(r)
		var refusal *Refusal
		switch {
		case c.status == 0:
			if err != nil || Accept(Key(r)) != exampleAccept {
				t.Errorf("%q: %v", c.new, err)
			}
			continue
		case !errors.As(err, &refusal) || refusal.Status != c.status || refusal.Reason == "":
			t.Errorf("%q: %v, want status %d", c.new, err, c.status)
			continue
		}
		h := refusal.Header
		if c.status == 405 && h.Get("Allow") != "GET" {
			t.Errorf("%q: Allow is %q", c.new, h.Get("Allow"))
		}
		if c.status == 426 && h.Get("Upgrade") != "websocket" {
			t.Errorf("%q: Upgrade is %q", c.new, h.Get("Upgrade"))
		}
		if strings.Contains(c.old, "Version") && h.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%q: Sec-WebSocket-Version is %q", c.new, h.Get("Sec-WebSocket-Version"))
		}
	}
	r := request(t, example)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	if err := Check(r); err == nil {
		t.Error("HTTP/2 is let in")
	}
}

func TestIsUpgrade(t *testing.T) {
	for header, want := range map[string]bool{
		"Upgrade: WebSocket": true, "Upgrade: a, websocket": true, "Upgrade: h2c": false, "X: y": false,
	} {
		if got := IsUpgrade(request(t, "POST / HTTP/1.1\r\nHost: a\r\n"+header+"\r\n\r\n")); got != want {
			t.Errorf("%s: %v", header, got)
		}
	}
}

func TestNewKey(t *testing.T) {
	key, err := NewKey(strings.NewReader("the sample nonce"))
	if key != exampleKey || err != nil {
		t.Error(key, err)
	}
	if _, err := NewKey(iotest.ErrReader(errors.New("empty"))); err == nil {
		t.Error("a key without random bytes")
	}
	if _, err := NewKey(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("a key of 15 bytes")
	}
}

func TestProtocols(t *testing.T) {
	for header, want := range map[string][]string{
		"":                           nil,
		"chat":                       {"chat"},
		" chat ,superchat,, v1.json": {"chat", "superchat", "v1.json"},
		"chat/1":                     nil,
	} {
		if got := Protocols(http.Header{headerProtocol: {header}}); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q", header, got)
		}
	}
	if got := Protocols(http.Header{headerProtocol: {"a", "b, c"}}); !reflect.DeepEqual(got, []string{"a", "b", "c"}) {
		t.Errorf("two lines: %q", got)
	}
}

func TestCheckProtocol(t *testing.T) {
	for _, c := range []struct {
		lines   []string
		offered []string
		want    string
		ok      bool
	}{
		{nil, []string{"a"}, "", true},
		{nil, nil, "", true},
		{[]string{"a"}, []string{"b", "a"}, "a", true},
		{[]string{"c"}, []string{"b", "a"}, "", false},
		{[]string{"A"}, []string{"a"}, "", false},
		{[]string{"a"}, nil, "", false},
		{[]string{""}, nil, "", false},
		{[]string{"a, b"}, []string{"a", "b"}, "", false},
		{[]string{"a", "b"}, []string{"a", "b"}, "", false},
	} {
		got, err := CheckProtocol(http.Header{headerProtocol: c.lines}, c.offered)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q of %q: %q, %v", c.lines, c.offered, got, err)
		}
		if err != nil && err.(*ResponseError).Layer != LayerProtocol {
			t.Errorf("%q: %v", c.lines, err)
		}
	}
}

func TestCheckResponse(t *testing.T) {
	const good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + exampleAccept + "\r\n\r\n"
	for _, c := range []struct {
		old, new string
		layer    Layer // "": taken
		says     string
	}{
		{"", "", "", ""},
		{"Upgrade: websocket", "Upgrade: WebSocket", "", ""},
		{"Connection: Upgrade", "Connection: keep-alive, upgrade", "", ""},
		{"101 Switching Protocols", "200 OK", LayerStatus, "200 OK"},
		{"101 Switching Protocols", "301 Moved Permanently\r\nLocation: https://a/b", LayerStatus, "https://a/b"},
		{"101 Switching Protocols", "400 Bad Request", LayerStatus, "proxy"},
		{"101 Switching Protocols", "403 Forbidden", LayerStatus, "Origin"},
		{"101 Switching Protocols", "404 Not Found", LayerStatus, "404 Not Found"},
		{"101 Switching Protocols", "401 Unauthorized", LayerStatus, "credentials"},
		{"101 Switching Protocols", "426 Upgrade Required\r\nSec-WebSocket-Version: 8", LayerStatus, `version "8"`},
		{"Upgrade: websocket", "Upgrade: h2c", LayerUpgrade, "h2c"},
		{"Upgrade: websocket\r\n", "", LayerUpgrade, "Upgrade"},
		{"Connection: Upgrade", "Connection: keep-alive", LayerUpgrade, "keep-alive"},
		{"Connection: Upgrade\r\n", "", LayerUpgrade, "Connection"},
		{exampleAccept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOP=", LayerAccept, "key"},
		{exampleAccept, strings.ToLower(exampleAccept), LayerAccept, "key"},
		{"Sec-WebSocket-Accept: " + exampleAccept + "\r\n", "", LayerAccept, "no Sec-WebSocket-Accept"},
	} {
		err := CheckResponse(response(t, strings.Replace(good, c.old, c.new, 1)), exampleKey)
		if c.layer == "" {
			if err != nil {
				t.Errorf("%q: %v", c.new, err)
			}
			continue
		}
		var e *ResponseError
		if !errors.As(err, &e) || e.Layer != c.layer || !strings.Contains(e.Error(), c.says) || e.Status == 0 {
			t.Errorf("%q: %v, want layer %s and %q", c.new, err, c.layer, c.says)
		}
	}
}

// What a server says is cut and cleaned before it is printed.
func TestErrorsDontRepeatEverything(t *testing.T) {
	long := "a\x1b[31m\u202e" + strings.Repeat("x", 100_000)
	for _, h := range []http.Header{
		{"Upgrade": {long}},
		{"Upgrade": {"websocket"}, "Connection": {long}},
		{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, headerAccept: {long, long}},
		{"Location": {long}},
		{headerVersion: {long}},
	} {
		for _, status := range []int{101, 301, 426} {
			resp := &http.Response{StatusCode: status, Status: long, Header: h}
			printed(t, CheckResponse(resp, exampleKey))
		}
	}
	_, err := CheckProtocol(http.Header{headerProtocol: {long, long}}, []string{"a"})
	printed(t, err)
	token := strings.Repeat("x", 100_000)
	for _, value := range []string{
		token, long, "permessage-deflate, " + token, "permessage-deflate; " + token,
		"permessage-deflate; server_no_context_takeover=" + token,
		"permessage-deflate; server_max_window_bits=" + token,
	} {
		_, err := Agree(offers(value), &all)
		printed(t, err)
	}
}

func printed(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); len(s) > 800 || strings.ContainsAny(s, "\x1b\u202e") {
		t.Errorf("%d bytes: %.100q", len(s), s)
	}
}

func TestCheckOrigin(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		tls          bool
		patterns     string
		want         bool
	}{
		{"http://example.com", "example.com", false, "", true},
		{"http://EXAMPLE.com", "example.COM", false, "", true},
		{"http://example.com:80", "example.com", false, "", true},
		{"http://example.com", "example.com:80", false, "", true},
		{"https://example.com", "example.com", true, "", true},
		{"https://example.com", "example.com:443", true, "", true},
		{"https://example.com", "example.com", false, "", true}, // behind a proxy that ends TLS
		{"http://example.com", "example.com", true, "", false},  // another port: the page isn't secure
		{"http://example.com:8080", "example.com:8080", false, "", true},
		{"http://example.com:8080", "example.com", false, "", false},
		{"http://example.com", "example.com:8080", false, "", false},
		{"http://example.com", "www.example.com", false, "", false},
		{"http://example.com.evil.net", "example.com", false, "", false},
		{"http://evil.net", "example.com", false, "", false},
		{"http://[::1]:9501", "[::1]:9501", false, "", true},
		{"http://[0:0:0::1]:9501", "[::1]:9501", false, "", true},
		{"http://[::1]", "[::1]", false, "", true},
		{"http://[::1]", "[::2]", false, "", false},
		{"http://127.0.0.1:9501", "127.0.0.1:9501", false, "", true},
		{"null", "example.com", false, "", false},
		{"", "example.com", false, "", false},
		{"example.com", "example.com", false, "", false},
		{"http://example.com/", "example.com", false, "", false},
		{"http://user@example.com", "example.com", false, "", false},
		{"http://example.com#x", "example.com", false, "", false},
		{"http://evil.net\\@example.com", "example.com", false, "", false},
		{"http://", "", false, "", false},

		{"http://other.net", "example.com", false, "other.net", true},
		{"https://other.net", "example.com", false, "other.net", true},
		{"https://other.net:8443", "example.com", false, "other.net", false},
		{"https://other.net:8443", "example.com", false, "other.net:8443", true},
		{"https://other.net:8443", "example.com", false, "other.net:*", true},
		{"https://other.net", "example.com", false, "https://other.net", true},
		{"http://other.net", "example.com", false, "https://other.net", false},
		{"https://a.other.net", "example.com", false, "*.other.net", true},
		{"https://A.Other.net", "example.com", false, "*.oTher.net", true},
		{"https://a.b.other.net", "example.com", false, "*.other.net", false},
		{"https://a.b.other.net", "example.com", false, "*.*.other.net", true},
		{"https://other.net", "example.com", false, "*.other.net", false},
		{"https://evilother.net", "example.com", false, "*.other.net", false},
		{"https://a.other.net.evil.org", "example.com", false, "*.other.net", false},
		{"https://.other.net", "example.com", false, "*.other.net", false},
		{"https://a.other.net:8443", "example.com", false, "https://*.other.net:8443", true},
		{"https://[2001:db8::1]:8443", "example.com", false, "[2001:db8::1]:8443", true},
		{"https://[2001:db8::1]:8443", "example.com", false, "[2001:DB8:0::1]:*", true},
		{"https://x.net", "example.com", false, "other.net x.net", true},
		{"https://x.net", "example.com", false, "*", true},
		{"null", "example.com", false, "*", true},
		{"https://x.net", "example.com", false, "://", false},
	} {
		r := &http.Request{Host: c.host, Header: http.Header{"Origin": {c.origin}}}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := CheckOrigin(r, strings.Fields(c.patterns)); got != c.want {
			t.Errorf("%q for %q, TLS %v, patterns %q: %v", c.origin, c.host, c.tls, c.patterns, got)
		}
	}
	if !CheckOrigin(&http.Request{Host: "example.com"}, nil) {
		t.Error("a program that is no browser isn't let in")
	}
	two := http.Header{"Origin": {"http://example.com", "http://example.com"}}
	if CheckOrigin(&http.Request{Host: "example.com", Header: two}, nil) {
		t.Error("two origins are let in")
	}
}
