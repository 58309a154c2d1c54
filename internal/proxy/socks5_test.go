package proxy_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/proxy"
)

const (
	methodNone     = "\x05\x00"
	methodUserPass = "\x05\x02"
	authOK         = "\x01\x00"
	replyOK        = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

func newSOCKS5(t testing.TB, target, user, password string) func() proxy.Handshake {
	return func() proxy.Handshake {
		h, err := proxy.NewSOCKS5(target, user, password)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

func TestSOCKS5SendsTargetAsGiven(t *testing.T) {
	longName := strings.Repeat("a", 255)
	tests := []struct{ target, address string }{
		{"192.0.2.1:25", "\x01\xc0\x00\x02\x01\x00\x19"},
		{"[2001:db8::1]:443", "\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb"},
		{"[::ffff:192.0.2.1]:25", "\x01\xc0\x00\x02\x01\x00\x19"},
		{"mail.example.com:65535", "\x03\x10mail.example.com\xff\xff"},
		{"_smtp.x-y.example.:1", "\x03\x12_smtp.x-y.example.\x00\x01"},
		{longName + ":80", "\x03\xff" + longName + "\x00\x50"},
	}
	for _, test := range tests {
		got := expectSame(t, newSOCKS5(t, test.target, "", ""), methodNone+replyOK)
		want := "\x05\x01\x00" + "\x05\x01\x00" + test.address
		if got.out != want || !got.done {
			t.Errorf("%s: %v, want out %q", test.target, got, want)
		}
	}
}

func TestSOCKS5SaysOneThingAtATime(t *testing.T) {
	h := newSOCKS5(t, "h:80", "user", "pass")()
	steps := []struct{ in, out string }{
		{"", "\x05\x02\x00\x02"},
		{methodUserPass, "\x01\x04user\x04pass"},
		{authOK, "\x05\x01\x00\x03\x01h\x00\x50"},
	}
	for _, step := range steps {
		consumed, out, done, err := h.Next([]byte(step.in))
		if consumed != len(step.in) || string(out) != step.out || done || err != nil {
			t.Fatalf("on %q: %d, %q, %t, %v; want %q", step.in, consumed, out, done, err, step.out)
		}
	}
	consumed, out, done, err := h.Next([]byte(replyOK))
	if consumed != len(replyOK) || out != nil || !done || err != nil {
		t.Fatalf("on the reply: %d, %q, %t, %v", consumed, out, done, err)
	}
}

func TestSOCKS5KeepsCredentialsUnlessAsked(t *testing.T) {
	got := expectSame(t, newSOCKS5(t, "h:80", "user", "hunter2"), methodNone+replyOK)
	if want := "\x05\x02\x00\x02" + "\x05\x01\x00\x03\x01h\x00\x50"; got.out != want || !got.done {
		t.Errorf("%v, want out %q", got, want)
	}
}

func TestSOCKS5LeavesTunnelAlone(t *testing.T) {
	bound := map[string]string{
		"IPv4":       "\x01\xc0\x00\x02\x01\x04\x38",
		"IPv6":       "\x04" + strings.Repeat("\xfe", 16) + "\x04\x38",
		"name":       "\x03\x05proxy\x04\x38",
		"empty name": "\x03\x00\x04\x38",
		"long name":  "\x03\xff" + strings.Repeat("p", 255) + "\x04\x38",
	}
	for kind, address := range bound {
		answer := methodNone + "\x05\x00\x00" + address
		for _, tunnel := range []string{"", "2", "220 mail.example.com ESMTP\r\n", replyOK} {
			got := expectSame(t, newSOCKS5(t, "h:80", "", ""), answer+tunnel)
			if !got.done || got.consumed != len(answer) {
				t.Errorf("%s, %d tunnel bytes: %v, want %d consumed", kind, len(tunnel), got, len(answer))
			}
		}
		short := expectSame(t, newSOCKS5(t, "h:80", "", ""), answer[:len(answer)-1])
		if short.done || short.err != nil || short.consumed != len(methodNone) {
			t.Errorf("%s without its last byte: %v", kind, short)
		}
	}
}

func TestSOCKS5ReplyCodes(t *testing.T) {
	errnos := map[int]error{
		2: syscall.EACCES,
		3: syscall.ENETUNREACH,
		4: syscall.EHOSTUNREACH,
		5: syscall.ECONNREFUSED,
		6: syscall.ETIMEDOUT,
		7: errors.ErrUnsupported,
		8: syscall.EAFNOSUPPORT,
	}
	texts := map[int]string{
		1: "general SOCKS server failure", 2: "connection not allowed by ruleset", 3: "network unreachable",
		4: "host unreachable", 5: "connection refused", 6: "TTL expired", 7: "command not supported",
		8: "address type not supported",
	}
	for code := 1; code <= 255; code++ {
		// Some proxies send the whole reply, some stop after the code.
		for _, rest := range []string{"", "\x00\x01\x00\x00\x00\x00\x00\x00"} {
			got := expectSame(t, newSOCKS5(t, "h:80", "", ""), methodNone+"\x05"+string([]byte{byte(code)})+rest)
			if !errors.Is(got.err, proxy.ErrRefused) || got.err.(*proxy.Error).Answer != code {
				t.Fatalf("code %d: %v", code, got)
			}
			if number := got.err.(*proxy.Error).Code(); number != 7004 {
				t.Fatalf("code %d has Swoole's number %d", code, number)
			}
			text := texts[code]
			if code > 8 {
				text = "unassigned reply"
			}
			if !strings.Contains(got.err.Error(), text) {
				t.Errorf("code %d: error %q does not say %q", code, got.err, text)
			}
			if want := errnos[code]; want != nil && !errors.Is(got.err, want) {
				t.Errorf("code %d: error %v is not %v", code, got.err, want)
			}
			if _, isErrno := errors.AsType[syscall.Errno](got.err); isErrno != (errnos[code] != nil) {
				t.Errorf("code %d: errno found: %t", code, isErrno)
			}
		}
	}
}

func TestSOCKS5Failures(t *testing.T) {
	tests := []struct {
		name, answer string
		want         error
		code         int
		number       int // Swoole's
	}{
		{"SOCKS4 answer", "\x00\x5a", proxy.ErrProtocol, 0, 7001},
		{"HTTP answer", "HTTP/1.1 400 Bad Request\r\n\r\n", proxy.ErrProtocol, 0, 7001},
		{"one wrong byte", "H", proxy.ErrProtocol, 0, 7001},
		{"no acceptable method", "\x05\xff", proxy.ErrAuth, 255, 7002},
		{"GSSAPI, not offered", "\x05\x01", proxy.ErrProtocol, 0, 7005},
		{"private method, not offered", "\x05\x80", proxy.ErrProtocol, 0, 7005},
		{"wrong password", methodUserPass + "\x01\x01", proxy.ErrAuth, 1, 7003},
		{"wrong password, other status", methodUserPass + "\x01\xff", proxy.ErrAuth, 255, 7003},
		{"version 5 in authentication", methodUserPass + "\x05\x00", proxy.ErrProtocol, 0, 7001},
		{"version 4 in reply", methodNone + "\x04\x00", proxy.ErrProtocol, 0, 7001},
		{"reserved byte", methodNone + "\x05\x00\x01\x01\x00\x00\x00\x00\x00\x00", proxy.ErrProtocol, 0, 7005},
		{"address type 0", methodNone + "\x05\x00\x00\x00\x00\x00", proxy.ErrProtocol, 0, 7005},
		{"address type 2", methodNone + "\x05\x00\x00\x02\x00\x00", proxy.ErrProtocol, 0, 7005},
		{"address type 255", methodNone + "\x05\x00\x00\xff\x00\x00", proxy.ErrProtocol, 0, 7005},
	}
	for _, test := range tests {
		got := expectSame(t, newSOCKS5(t, "h:80", "user", "hunter2"), test.answer)
		if !errors.Is(got.err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
			continue
		}
		if e := got.err.(*proxy.Error); e.Answer != test.code || e.Proxy != "SOCKS5" {
			t.Errorf("%s: %s code %d, want SOCKS5 code %d", test.name, e.Proxy, e.Answer, test.code)
		} else if e.Code() != test.number {
			t.Errorf("%s: Swoole's number is %d, want %d", test.name, e.Code(), test.number)
		}
		if strings.Contains(got.err.Error(), "hunter2") {
			t.Errorf("%s: error quotes the password: %v", test.name, got.err)
		}
	}
}

func TestSOCKS5PasswordMethodHasToBeOffered(t *testing.T) {
	got := expectSame(t, newSOCKS5(t, "h:80", "", ""), methodUserPass)
	if !errors.Is(got.err, proxy.ErrProtocol) {
		t.Errorf("%v, want %v", got, proxy.ErrProtocol)
	}
}

func FuzzSOCKS5(f *testing.F) {
	for _, answer := range []string{
		methodNone + replyOK + "220 hello\r\n",
		methodUserPass + authOK + replyOK,
		methodUserPass + authOK + "\x05\x00\x00\x03\x05proxy\x04\x38tunnel",
		methodNone + "\x05\x00\x00\x04" + strings.Repeat("\xfe", 18),
		methodUserPass + "\x01\x01",
		methodNone + "\x05\x05\x00\x01",
		"\x05\xff",
		"HTTP/1.1 200 OK\r\n\r\n",
	} {
		f.Add(answer, true, 3, 1)
		f.Add(answer, false, 1, 7)
	}
	f.Fuzz(func(t *testing.T, answer string, credentials bool, first, then int) {
		user, password := "", ""
		if credentials {
			user, password = "user", "hunter2"
		}
		whole := checkCuts(t, newSOCKS5(t, "mail.example.com:25", user, password), answer, first, then)
		if credentials && whole.err != nil && strings.Contains(whole.err.Error(), password) {
			t.Errorf("error quotes the password: %v", whole.err)
		}
	})
}
