package dialing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/whorl-go/whorl/socket"
)

// ASCII returns a host name with A-labels. Names and addresses of ASCII stay as they are, right or
// wrong: underscores and other liberties are in use. A name that can't be translated is a
// *NameError.
func ASCII(host string) (string, error) {
	if isASCII(host) {
		return host, nil
	}
	if _, err := netip.ParseAddr(host); err == nil { // a zone may be called anything
		return host, nil
	}
	if !utf8.ValidString(host) {
		return "", &NameError{Host: host, Err: errors.New("it is not in UTF-8")}
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err == nil {
		err = checkLengths(ascii)
	}
	if err != nil {
		return "", &NameError{Host: host, Err: err}
	}
	return ascii, nil
}

// checkLengths holds a name to the lengths of RFC 1035, section 2.3.4, of which the profile Lookup
// takes no notice. The dot at the end may be there.
func checkLengths(ascii string) error {
	if len(ascii) > 254 {
		return errors.New("it is longer than DNS allows")
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(ascii, "."), ".") {
		if len(label) == 0 || len(label) > 63 {
			return errors.New("a label is not 1 to 63 bytes long")
		}
	}
	return nil
}

// ASCIIAddress is ASCII for the host of "host:port".
func ASCIIAddress(address string) (string, error) {
	if isASCII(address) {
		return address, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if host, err = ASCII(host); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// NameError says that a host name can't be one.
type NameError struct {
	Host string // as it was given
	Err  error  // why
}

// Error names the host, quoted, and says why.
func (e *NameError) Error() string { return fmt.Sprintf("%q is no host name: %v", e.Host, e.Err) }

// Unwrap returns the cause.
func (e *NameError) Unwrap() error { return e.Err }

// Code is Swoole's number, SW_ERROR_DNSLOOKUP_UNSUPPORTED: DNS can't be asked for such a name.
func (e *NameError) Code() int { return 713 }

// Resolver returns whom a socket has to ask for the host of an address that it shall connect to, or
// for a host: next if that is ASCII, else one that asks next for the name's A-labels. So the socket
// is given the address as the user wrote it, and names it so in its errors. nil stands for
// net.DefaultResolver, as with socket.SetResolver.
func Resolver(next socket.Resolver, address string) socket.Resolver {
	if isASCII(address) {
		return next
	}
	if next == nil {
		next = net.DefaultResolver
	}
	return translator{next}
}

// translator asks next for A-labels. It is comparable if next is, so its answers are remembered.
type translator struct{ next socket.Resolver }

func (t translator) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ascii, err := ASCII(host)
	if err != nil {
		return nil, err
	}
	ips, err := t.next.LookupNetIP(ctx, network, ascii)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.Name == ascii {
		named := *dns
		named.Name = host
		return nil, &named
	}
	return ips, err
}

// Literal names this side of a connection by its address, for want of a domain, in the greeting of
// SMTP and its kin (RFC 5321, section 4.1.3).
func Literal(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}
