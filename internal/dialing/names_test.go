package dialing_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/dialing"
	"github.com/whorl-go/whorl/socket"
)

func TestNamesBecomeALabels(t *testing.T) {
	for host, want := range map[string]string{
		"bücher.example":       "xn--bcher-kva.example",
		"BÜCHER.Example":       "xn--bcher-kva.example",
		"bücher.example.":      "xn--bcher-kva.example.",
		"bu\u0308cher.example": "xn--bcher-kva.example",
		"faß.example":          "xn--fa-hia.example",
		"例え。テスト":               "xn--r8jz45g.xn--zckzah",

		// ASCII stays as it is.
		"Mail.Example":             "Mail.Example",
		"_submission._tcp.example": "_submission._tcp.example",
		"r3---sn-4g5e6nzl.example": "r3---sn-4g5e6nzl.example",
		"xn--bcher-kva.example":    "xn--bcher-kva.example",
		"":                         "",
		"192.0.2.1":                "192.0.2.1",
		"2001:db8::1":              "2001:db8::1",
		"fe80::1%lo":               "fe80::1%lo",
		"fe80::1%büro":             "fe80::1%büro",
	} {
		if got, err := dialing.ASCII(host); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", host, got, err, want)
		}
		if strings.Contains(host, ":") {
			continue
		}
		if got, err := dialing.ASCIIAddress(host + ":smtp"); got != want+":smtp" || err != nil {
			t.Errorf("%q with a port: %q, %v", host, got, err)
		}
	}
}

func TestBadNamesAreErrors(t *testing.T) {
	for _, host := range []string{
		"bü cher.example", "bücher_.example", "-bücher.example", "bücher..example",
		"ü" + strings.Repeat("a", 63) + ".example", strings.Repeat("ü.", 40) + "example",
		"bücher\xff.example", "\xff", "אa.example", "\u00ad", "büch/er.example", "bücher\x00.example",
	} {
		got, err := dialing.ASCII(host)
		bad, ok := errors.AsType[*dialing.NameError](err)
		if got != "" || !ok || bad.Host != host || errors.Unwrap(err) == nil {
			t.Errorf("%q: %q, %v", host, got, err)
		}
		if socket.Code(err) != 713 {
			t.Errorf("%q: code %d", host, socket.Code(err))
		}
		if _, err := dialing.ASCIIAddress(host + ":25"); err == nil {
			t.Errorf("%q with a port is fine", host)
		}
	}
	if _, err := dialing.ASCIIAddress("bücher.example"); socket.Code(err) == 713 || err == nil {
		t.Errorf("without a port: %v", err)
	}
}

// asked is a Resolver that knows nothing.
type asked struct{ hosts *[]string }

func (a asked) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	*a.hosts = append(*a.hosts, network+" "+host)
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestResolversAreAskedForALabels(t *testing.T) {
	next := asked{new([]string)}
	if r := dialing.Resolver(next, "mail.example:25"); r != socket.Resolver(next) {
		t.Errorf("a name of ASCII has %v", r)
	}
	if r := dialing.Resolver(nil, "mail.example"); r != nil {
		t.Errorf("a name of ASCII has %v", r)
	}
	r := dialing.Resolver(next, "bücher.example:25")
	_, err := r.LookupNetIP(context.Background(), "ip", "bücher.example")
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || dns.Name != "bücher.example" || !dns.IsNotFound {
		t.Errorf("error is %v", err)
	}
	if got := strings.Join(*next.hosts, ","); got != "ip xn--bcher-kva.example" {
		t.Errorf("asked for %s", got)
	}
	_, err = r.LookupNetIP(context.Background(), "ip", "bü cher")
	if socket.Code(err) != 713 || len(*next.hosts) != 1 {
		t.Errorf("error is %v, asked for %q", err, *next.hosts)
	}
	if r != dialing.Resolver(next, "bücher.example:25") {
		t.Error("answers can't be remembered")
	}
}

func FuzzASCII(f *testing.F) {
	for _, host := range []string{
		"bücher.example", "xn--a", "例え。テスト", "fe80::1%ü", "\u00ad", "１２７.0.0.1",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		ascii, err := dialing.ASCII(host)
		if err != nil {
			return
		}
		if again, err := dialing.ASCII(ascii); again != ascii || err != nil {
			t.Errorf("%q is %q, and that is %q, %v", host, ascii, again, err)
		}
		if ascii == "" && host != "" || len(ascii) > 255 && ascii != host {
			t.Errorf("%q is %q", host, ascii)
		}
	})
}

func TestLiteral(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"[192.0.2.1]":        &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 25},
		"[IPv6:2001:db8::1]": &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 25},
		"[IPv6:fe80::1]":     &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"},
		"localhost":          &net.UnixAddr{Name: "/run/s", Net: "unix"},
	} {
		if got := dialing.Literal(addr); got != want {
			t.Errorf("%v: %s, want %s", addr, got, want)
		}
	}
}
