package proxy_test

import (
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/proxy"
)

type constructor func(target, user, password string) (proxy.Handshake, error)

var constructors = map[string]constructor{"SOCKS5": proxy.NewSOCKS5, "HTTP CONNECT": proxy.NewConnect}

func TestInvalidTargetIsRejectedByBoth(t *testing.T) {
	targets := map[string]string{
		"empty":                   "",
		"no port":                 "example.com",
		"empty port":              "example.com:",
		"port 0":                  "example.com:0",
		"port above 65535":        "example.com:65536",
		"negative port":           "example.com:-1",
		"signed port":             "example.com:+80",
		"port with space":         "example.com:80 ",
		"service name":            "example.com:https",
		"line end in port":        "example.com:80\r\nX: y",
		"empty host":              ":80",
		"empty brackets":          "[]:80",
		"IPv6 without brackets":   "::1:80",
		"IPv6 with zone":          "[fe80::1%eth0]:80",
		"bad IPv6":                "[::g]:80",
		"IPv4 in brackets":        "[192.0.2.1]:80",
		"name in brackets":        "[example.com]:80",
		"unclosed bracket":        "[::1:80",
		"CR LF in host":           "example.com\r\nX: y:80",
		"CR in host":              "exam\rple.com:80",
		"LF in host":              "exam\nple.com:80",
		"NUL in host":             "example.com\x00.evil:80",
		"space in host":           "example.com HTTP/1.1:80",
		"tab in host":             "exam\tple.com:80",
		"user info":               "user:hunter2@example.com:80",
		"at sign":                 "user@example.com:80",
		"path":                    "example.com/x:80",
		"query":                   "example.com?x:80",
		"fragment":                "example.com#x:80",
		"percent encoding":        "ex%61mple.com:80",
		"backslash":               `example.com\x:80`,
		"delete character":        "example.com\x7f:80",
		"not ASCII":               "bücher.example:80",
		"not UTF-8":               "b\xfccher.example:80",
		"name of 256 bytes":       strings.Repeat("a", 256) + ":80",
		"URL instead of a target": "http://example.com:80",
	}
	for name, target := range targets {
		for kind, construct := range constructors {
			h, err := construct(target, "", "")
			if err == nil || h != nil {
				t.Errorf("%s: %s accepted %q", name, kind, target)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: error quotes the password: %v", name, err)
			}
		}
	}
}

func TestInvalidCredentialsAreRejected(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct {
		name, user, password string
		socks, connect       bool // accepted
	}{
		{"none", "", "", true, true},
		{"both", "user", "hunter2", true, true},
		{"255 bytes each", long[1:], long[1:], true, true},
		{"space and not ASCII", "us er", "pä ss", true, true},
		{"colon in the password", "user", "hunter2:x", true, true},
		{"colon in the user", "us:er", "hunter2", true, false},
		{"no password", "user", "", false, true},
		{"no user", "", "hunter2", false, true},
		{"user of 256 bytes", long, "hunter2", false, true},
		{"password of 256 bytes", "user", long, false, true},
		{"CR in the user", "us\rer", "hunter2", false, false},
		{"LF in the user", "us\ner", "hunter2", false, false},
		{"NUL in the user", "us\x00er", "hunter2", false, false},
		{"CR in the password", "user", "hunter2\r", false, false},
		{"LF in the password", "user", "hunter2\n", false, false},
		{"NUL in the password", "user", "hunter2\x00", false, false},
		{"delete in the password", "user", "hunter2\x7f", false, false},
	}
	for _, test := range tests {
		for kind, construct := range constructors {
			accepted := test.socks
			if kind != "SOCKS5" {
				accepted = test.connect
			}
			h, err := construct("example.com:80", test.user, test.password)
			if (err == nil) != accepted || (h != nil) != accepted {
				t.Errorf("%s: %s gave %v, want accepted %t", test.name, kind, err, accepted)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: error quotes the password: %v", test.name, err)
			}
		}
	}
}
