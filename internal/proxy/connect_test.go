package proxy_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/proxy"
)

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

func newConnect(t testing.TB, target, user, password string) func() proxy.Handshake {
	return func() proxy.Handshake {
		h, err := proxy.NewConnect(target, user, password)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

func TestConnectRequest(t *testing.T) {
	tests := []struct{ target, user, password, want string }{
		{"mail.example.com:25", "", "", "CONNECT mail.example.com:25 HTTP/1.1\r\nHost: mail.example.com:25\r\n\r\n"},
		{"192.0.2.1:080", "", "", "CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n"},
		{"[2001:DB8::0:1]:443", "", "", "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"},
		{"h:80", "Aladdin", "open sesame", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n" +
			"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"},
		{"h:80", "", "x", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nProxy-Authorization: Basic Ong=\r\n\r\n"},
	}
	for _, test := range tests {
		got := expectSame(t, newConnect(t, test.target, test.user, test.password), established)
		if got.out != test.want || !got.done || got.consumed != len(established) {
			t.Errorf("%s: %v, want out %q", test.target, got, test.want)
		}
	}
}

func TestConnectLeavesTunnelAlone(t *testing.T) {
	answers := map[string]string{
		"plain":                established,
		"HTTP/1.0":             "HTTP/1.0 200 OK\r\n\r\n",
		"later minor version":  "HTTP/1.2 200 OK\r\n\r\n",
		"empty reason":         "HTTP/1.1 200 \r\n\r\n",
		"no reason":            "HTTP/1.1 200\r\n\r\n",
		"reason not ASCII":     "HTTP/1.1 200 Verbindung möglich\x1b\r\n\r\n",
		"other success":        "HTTP/1.1 299 Fine\r\n\r\n",
		"no content":           "HTTP/1.1 204 No Content\r\n\r\n",
		"content length":       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"chunked":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Empty:\r\n\r\n",
		"interim":              "HTTP/1.1 100 Continue\r\n\r\n" + established,
		"interims with fields": "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + established,
	}
	for name, answer := range answers {
		for _, tunnel := range []string{"", "\n", "\r\n", "220 mail.example.com ESMTP\r\n", established, "HTTP/1.1 500 x\r\n\r\n"} {
			got := expectSame(t, newConnect(t, "h:80", "", ""), answer+tunnel)
			if !got.done || got.consumed != len(answer) {
				t.Errorf("%s, tunnel %q: %v, want %d consumed", name, tunnel, got, len(answer))
			}
		}
		if short := expectSame(t, newConnect(t, "h:80", "", ""), answer[:len(answer)-1]); short.done || short.err != nil {
			t.Errorf("%s without its last byte: %v", name, short)
		}
	}
}

func TestConnectEveryStatus(t *testing.T) {
	for status := range 1000 {
		line := "HTTP/1.1 " + string([]byte{'0' + byte(status/100), '0' + byte(status/10%10), '0' + byte(status%10)}) + " Text\r\n"
		got := expectSame(t, newConnect(t, "h:80", "", ""), line)
		var want error
		switch {
		case status < 100 || status == 101:
			want = proxy.ErrProtocol
		case status == 407:
			want = proxy.ErrAuth
		case status >= 300:
			want = proxy.ErrRefused
		}
		if !errors.Is(got.err, want) || got.done {
			t.Fatalf("status %d: %v, want %v", status, got, want)
		}
		if want == proxy.ErrAuth || want == proxy.ErrRefused {
			if e := got.err.(*proxy.Error); e.Answer != status || e.Proxy != "HTTP CONNECT" || !strings.Contains(e.Error(), ": Text (code ") {
				t.Errorf("status %d: %#v", status, e)
			}
		}
		wantNumber := 7101
		if want == proxy.ErrProtocol {
			wantNumber = 7104
		}
		if want != nil && got.err.(*proxy.Error).Code() != wantNumber {
			t.Errorf("status %d: Swoole's number isn't %d: %v", status, wantNumber, got.err)
		}
	}
}

func TestConnectMalformed(t *testing.T) {
	answers := map[string]string{
		"one wrong byte":           "S",
		"SSH":                      "SSH-2.0-OpenSSH_9.9\r\n",
		"TLS alert":                "\x15\x03\x01\x00\x02\x02\x46",
		"SOCKS5":                   "\x05\x00",
		"empty line first":         "\r\n" + established,
		"lower case":               "http/1.1 200 OK\r\n\r\n",
		"HTTP/2":                   "HTTP/2.0 200 OK\r\n\r\n",
		"no minor version":         "HTTP/1. 200 OK\r\n\r\n",
		"two digits of version":    "HTTP/1.10 200 OK\r\n\r\n",
		"no status":                "HTTP/1.1\r\n\r\n",
		"two spaces":               "HTTP/1.1  200 OK\r\n\r\n",
		"two digits":               "HTTP/1.1 20 OK\r\n\r\n",
		"four digits":              "HTTP/1.1 2000 OK\r\n\r\n",
		"signed status":            "HTTP/1.1 +20 OK\r\n\r\n",
		"tab behind status":        "HTTP/1.1 200\tOK\r\n\r\n",
		"bare LF on status line":   "HTTP/1.1 200 OK\n\r\n",
		"bare LF on field":         "HTTP/1.1 200 OK\r\nX: y\n\r\n",
		"bare LF as empty line":    "HTTP/1.1 200 OK\r\n\n",
		"bare CR in reason":        "HTTP/1.1 200 OK\rX\r\n\r\n",
		"bare CR in field":         "HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n",
		"bare CR before empty":     "HTTP/1.1 200 OK\r\n\r\r\n",
		"NUL in reason":            "HTTP/1.1 403 No\x00pe\r\n\r\n",
		"NUL in field":             "HTTP/1.1 200 OK\r\nX: y\x00z\r\n\r\n",
		"folded with space":        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
		"folded with tab":          "HTTP/1.1 200 OK\r\nX: y\r\n\tz\r\n\r\n",
		"folded first":             "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
		"field without colon":      "HTTP/1.1 200 OK\r\nXYZ\r\n\r\n",
		"field without name":       "HTTP/1.1 200 OK\r\n: y\r\n\r\n",
		"space before colon":       "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
		"name not ASCII":           "HTTP/1.1 200 OK\r\nXä: y\r\n\r\n",
		"tunnel behind interim":    "HTTP/1.1 100 Continue\r\n\r\n220 mail.example.com ESMTP\r\n",
		"bad field of interim":     "HTTP/1.1 100 Continue\r\nXYZ\r\n\r\n" + established,
		"protocol switched":        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
		"tunnel without an answer": "220 mail.example.com ESMTP\r\n",
	}
	for name, answer := range answers {
		got := expectSame(t, newConnect(t, "h:80", "user", "hunter2"), answer)
		if !errors.Is(got.err, proxy.ErrProtocol) {
			t.Errorf("%s: %v, want %v", name, got, proxy.ErrProtocol)
		}
	}
}

func TestConnectHeadIsBounded(t *testing.T) {
	const limit = 16 << 10
	pad := func(head string, size int) string {
		return head + strings.Repeat("x", size-len(head)-len("\r\n\r\n")) + "\r\n\r\n"
	}
	fields := strings.Repeat("X-Field: value\r\n", limit/len("X-Field: value\r\n"))
	interims := strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", limit/len("HTTP/1.1 100 Continue\r\n\r\n"))
	tests := []struct {
		name, answer string
		done         bool
	}{
		{"as long as allowed", pad("HTTP/1.1 200 OK\r\nX: ", limit), true},
		{"as long as allowed, tunnel behind", pad("HTTP/1.1 200 OK\r\nX: ", limit) + fields, true},
		{"one byte longer", pad("HTTP/1.1 200 OK\r\nX: ", limit+1), false},
		{"long status line", pad("HTTP/1.1 200 ", limit+1), false},
		{"long field without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", limit), false},
		{"many fields", "HTTP/1.1 200 OK\r\n" + fields + "\r\n", false},
		{"many interim answers", interims + established, false},
	}
	for _, test := range tests {
		got := expectSame(t, newConnect(t, "h:80", "", ""), test.answer)
		if got.done != test.done || errors.Is(got.err, proxy.ErrProtocol) == test.done {
			t.Errorf("%s: %v, want done %t", test.name, got, test.done)
		}
	}

	full := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", limit-20)
	if got := run(t, newConnect(t, "h:80", "", "")(), full, 100); got.err != nil {
		t.Errorf("gave up before the limit was passed: %v", got)
	}
}

func TestConnectReasonIsCleaned(t *testing.T) {
	token := base64.StdEncoding.EncodeToString([]byte("user:hunter2"))
	tests := []struct{ name, reason, want string }{
		{"plain", " Forbidden by policy 7", "HTTP CONNECT: proxy refused the tunnel: Forbidden by policy 7 (code 403)"},
		{"none", "", "HTTP CONNECT: proxy refused the tunnel (code 403)"},
		{"blank", "   \t", "HTTP CONNECT: proxy refused the tunnel (code 403)"},
		{"escapes", " a\x1b[31mb\x07\x7fc", "HTTP CONNECT: proxy refused the tunnel: a?[31mb??c (code 403)"},
		{"not ASCII", " \u202everboten\u00e4\xff", "HTTP CONNECT: proxy refused the tunnel: ?verboten?? (code 403)"},
		{"long", " " + strings.Repeat("y", 5000), "HTTP CONNECT: proxy refused the tunnel: " + strings.Repeat("y", 128) + " (code 403)"},
		{"password", " user/hunter2 is banned", "HTTP CONNECT: proxy refused the tunnel (code 403)"},
		{"password at the cut", strings.Repeat(" y", 62) + " hunter2", "HTTP CONNECT: proxy refused the tunnel (code 403)"},
		{"credentials", " Basic " + token, "HTTP CONNECT: proxy refused the tunnel (code 403)"},
	}
	for _, test := range tests {
		got := expectSame(t, newConnect(t, "h:80", "user", "hunter2"), "HTTP/1.1 403"+test.reason+"\r\n\r\n")
		if got.err == nil || got.err.Error() != test.want {
			t.Errorf("%s: %v, want %q", test.name, got, test.want)
		}
	}

	// Cleaning must not produce what it is meant to hide, and a user name alone is an access token.
	got := expectSame(t, newConnect(t, "h:80", "user", "s?cret"), "HTTP/1.1 407 s\x01cret\r\n")
	if want := "HTTP CONNECT: proxy authentication failed (code 407)"; got.err == nil || got.err.Error() != want {
		t.Errorf("%v, want %q", got, want)
	}
	got = expectSame(t, newConnect(t, "h:80", "t0ken", ""), "HTTP/1.1 407 bad token t0ken\r\n")
	if want := "HTTP CONNECT: proxy authentication failed (code 407)"; got.err == nil || got.err.Error() != want {
		t.Errorf("%v, want %q", got, want)
	}
}

func FuzzConnect(f *testing.F) {
	for _, answer := range []string{
		established + "220 hello\r\n",
		"HTTP/1.0 200\r\nContent-Length: 5\r\nVia: x\r\n\r\ntunnel",
		"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + established,
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
		"HTTP/1.1 403 user:hunter2\x1b\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\n",
		"HTTP/1.1 101 Switching\r\n\r\n",
		"SSH-2.0-x\r\n",
	} {
		f.Add(answer, true, 3, 1)
		f.Add(answer, false, 1, 7)
	}
	f.Fuzz(func(t *testing.T, answer string, credentials bool, first, then int) {
		user, password := "", ""
		if credentials {
			user, password = "user", "hunter2"
		}
		whole := checkCuts(t, newConnect(t, "mail.example.com:25", user, password), answer, first, then)
		if credentials && whole.err != nil && strings.Contains(whole.err.Error(), password) {
			t.Errorf("error quotes the password: %v", whole.err)
		}
	})
}

// FuzzConnectRequest looks for arguments that smuggle something into the request: another parser
// has to find in it one request with these fields and nothing else.
func FuzzConnectRequest(f *testing.F) {
	f.Add("mail.example.com:25", "user", "hunter2")
	f.Add("[2001:db8::1]:443", "", "")
	f.Add("h:80\r\nX: y", "us:er", "x\r\n")
	f.Add("a b:80", "\x00", "ä")
	f.Fuzz(func(t *testing.T, target, user, password string) {
		h, err := proxy.NewConnect(target, user, password)
		if err != nil {
			return
		}
		_, out, _, _ := h.Next(nil)
		rest := bufio.NewReaderSize(strings.NewReader(string(out)), len(out))
		request, err := http.ReadRequest(rest)
		if err != nil || rest.Buffered() != 0 {
			t.Fatalf("request %q: %v, %d bytes left", out, err, rest.Buffered())
		}
		authorization := request.Header["Proxy-Authorization"]
		if len(request.Header) != len(authorization) || len(authorization) > 1 {
			t.Errorf("request %q has fields %v", out, request.Header)
		}
		if request.Method != http.MethodConnect || request.Host != request.RequestURI {
			t.Errorf("request %q: %s %s, host %s", out, request.Method, request.RequestURI, request.Host)
		}
		request.Header["Authorization"] = authorization
		gotUser, gotPassword, _ := request.BasicAuth()
		if gotUser != user || gotPassword != password {
			t.Errorf("credentials %q, %q became %q, %q", user, password, gotUser, gotPassword)
		}
	})
}
