//go:build linux

package stream_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/hooks/stream"
)

func TestStreamURLs(t *testing.T) {
	for text, want := range map[string]stream.StreamTarget{
		"tcp://127.0.0.1:80":         {Transport: "tcp", Network: "tcp", Host: "127.0.0.1", Port: 80},
		"TCP://Example.com:65535/":   {Transport: "tcp", Network: "tcp", Host: "Example.com", Port: 65535},
		"example.com:25":             {Transport: "tcp", Network: "tcp", Host: "example.com", Port: 25},
		"tcp://:8000":                {Transport: "tcp", Network: "tcp", Port: 8000},
		"tcp://[::1]:0":              {Transport: "tcp", Network: "tcp", Host: "::1"},
		"tcp://[fe80::1%lo]:9":       {Transport: "tcp", Network: "tcp", Host: "fe80::1%lo", Port: 9},
		"udp://0.0.0.0:1113":         {Transport: "udp", Network: "udp", Host: "0.0.0.0", Port: 1113},
		"ssl://a:1":                  {Transport: "ssl", Network: "tcp", Host: "a", Port: 1, Secure: true},
		"tls://a:1":                  {Transport: "tls", Network: "tcp", Host: "a", Port: 1, Secure: true},
		"tlsv1.2://a:1":              {Transport: "tlsv1.2", Network: "tcp", Host: "a", Port: 1, Secure: true},
		"tlsv1.3://[2001:db8::1]:00": {Transport: "tlsv1.3", Network: "tcp", Host: "2001:db8::1", Secure: true},
		"unix:///run/a b:c":          {Transport: "unix", Network: "unix", Path: "/run/a b:c"},
		"unix://relative":            {Transport: "unix", Network: "unix", Path: "relative"},
		"unix://\x00hidden":          {Transport: "unix", Network: "unix", Path: "@hidden"},
		"udg:///tmp/x":               {Transport: "udg", Network: "unixgram", Path: "/tmp/x"},
	} {
		if got, err := stream.ParseStreamURL(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestStreamURLsThatMakeNoSense(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "port is missing",
		"http://a:80":            "no such transport; there are tcp, udp, unix, udg, ssl, tls, tlsv1.2, tlsv1.3",
		"sslv3://a:80":           "broken",
		"tlsv1.0://a:80":         "RFC 8996",
		"tlsv1.1://a:80":         "min_proto_version",
		"tcp://a":                "port is missing",
		"tcp://[::1]":            "port is missing",
		"tcp://a:":               "no port",
		"tcp://a:65536":          "no port",
		"tcp://a:+1":             "no port",
		"tcp://a:-1":             "no port",
		"tcp://a:0x10":           "no port",
		"tcp://a:80/path":        "no port",
		"tcp://a:http":           "no port",
		"tcp://::1:80":           "needs brackets",
		"tcp://[127.0.0.1]:80":   "no IPv6 address",
		"tcp://[x]:80":           "no IPv6 address",
		"tcp://[]:80":            "no host",
		"tcp://user@a:80":        "no host",
		"tcp://a b:80":           "no host",
		"tcp://a\n:80":           "no host",
		"tcp://" + "a/b" + ":80": "no host",
		"tcp://" + strings.Repeat("a", 256) + ":80": "longer than 255",
		"unix://":       "path is missing",
		"unix://\x00":   "path is missing",
		"unix://a\x00b": "NUL",
	} {
		_, err := stream.ParseStreamURL(text)
		if wrong, ok := errors.AsType[*stream.URLError](err); !ok || wrong.URL != text || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTransportsAreThoseOfTheURLs(t *testing.T) {
	names := stream.GetTransports()
	if want := []string{"tcp", "udp", "unix", "udg", "ssl", "tls", "tlsv1.2", "tlsv1.3"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	for _, name := range names {
		if _, err := stream.ParseStreamURL(name + "://a:1"); err != nil {
			t.Error(err)
		}
	}
}

// FuzzStreamURL has the parser return either an error or something that a socket can be made of,
// and that means the same when it is written again.
func FuzzStreamURL(f *testing.F) {
	for text := range strings.SplitSeq("tcp://127.0.0.1:80 tls://[::1%25eth0]:443/ unix:///tmp/x udg://\x00a a:1 udp://:0 :// tcp://[]:1 tlsv1.3://é:7", " ") {
		f.Add(text)
	}
	f.Add("tcp://[::1%a b]:1") // a zone that is none
	f.Fuzz(func(t *testing.T, text string) {
		u, err := stream.ParseStreamURL(text)
		if err != nil {
			if wrong, ok := errors.AsType[*stream.URLError](err); !ok || wrong.Reason == "" {
				t.Fatalf("%q: error %v", text, err)
			}
			return
		}
		if !slices.Contains(stream.GetTransports(), u.Transport) {
			t.Fatalf("%q: transport %q", text, u.Transport)
		}
		if strings.HasPrefix(u.Network, "unix") {
			if u.Path == "" || strings.Contains(u.Path, "\x00") || u.Host != "" || u.Port != 0 {
				t.Fatalf("%q: %+v", text, u)
			}
		} else if u.Path != "" || len(u.Host) > 255 || strings.ContainsAny(u.Host, " \n[]/@") {
			t.Fatalf("%q: %+v", text, u)
		}
		if strings.Contains(u.Host, ":") {
			if ip, err := netip.ParseAddr(u.Host); err != nil || !ip.Is6() {
				t.Fatalf("%q: host %q", text, u.Host)
			}
		}
		again, err := stream.ParseStreamURL(u.Transport + "://" + stream.StreamAddress(text))
		if err != nil || again != u {
			t.Fatalf("%q: %+v, written again %+v, %v", text, u, again, err)
		}
	})
}
