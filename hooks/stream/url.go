package stream

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/internal/dialing"
)

// streamTransport is what the part of a stream's URL before "://" stands for.
type streamTransport struct {
	name, network string
	secure        bool // TLS from the beginning
	// Those of TLS that the name stands for, without the bit of the role; 0: as the context says.
	versions CryptoMethod
}

// streamTransports are all there are.
var streamTransports = []streamTransport{
	{name: "tcp", network: "tcp"},
	{name: "udp", network: "udp"},
	{name: "unix", network: "unix"},
	{name: "udg", network: "unixgram"},
	{name: "ssl", network: "tcp", secure: true},
	{name: "tls", network: "tcp", secure: true},
	{name: "tlsv1.2", network: "tcp", secure: true, versions: CryptoTLSv12Server},
	{name: "tlsv1.3", network: "tcp", secure: true, versions: CryptoTLSv13Server},
}

// GetTransports returns the transports that URLs of streams may begin with.
func GetTransports() []string {
	names := make([]string, len(streamTransports))
	for i, t := range streamTransports {
		names[i] = t.name
	}
	return names
}

// streamURL is the URL of a stream, taken apart.
type streamURL struct {
	*streamTransport
	text string // as it was given

	// Of TCP and UDP. The host is a name, an IPv4 or an IPv6 address, without brackets; empty, for
	// a server, means every address of IPv4.
	host  string // as it was given
	ascii string // the host with A-labels
	port  uint16

	path string // of a Unix socket; one that begins with "@" is in the abstract namespace
}

// A URLError says what is wrong with the URL of a stream.
type URLError struct {
	URL    string
	Reason string
}

func (e *URLError) Error() string { return fmt.Sprintf("stream URL %q: %s", e.URL, e.Reason) }

// parseStreamURL takes a URL apart: "transport://host:port", "transport://[address]:port" or
// "transport:///path". Without a transport it is one of tcp.
func parseStreamURL(text string) (u streamURL, err error) {
	wrong := func(reason string, args ...any) (streamURL, error) {
		return streamURL{}, &URLError{URL: text, Reason: fmt.Sprintf(reason, args...)}
	}
	name, target, found := strings.Cut(text, "://")
	if !found {
		name, target = "tcp", text
	}
	name = strings.ToLower(name)
	for i := range streamTransports {
		if streamTransports[i].name == name {
			u.streamTransport = &streamTransports[i]
		}
	}
	u.text = text
	switch {
	case u.streamTransport != nil:
	case name == "sslv2" || name == "sslv3":
		return wrong("crypto/tls doesn't have that version, and it is broken")
	case name == "tlsv1.0" || name == "tlsv1.1":
		return wrong(
			"that version is out of use (RFC 8996): use tls://, and if it has to be, the ssl options min_proto_version and max_proto_version",
		)
	default:
		return wrong("no such transport; there are %s", strings.Join(GetTransports(), ", "))
	}
	if u.network == "unix" || u.network == "unixgram" {
		u.path, err = streamPath(target)
	} else {
		u.host, u.port, err = streamHostPort(strings.TrimSuffix(target, "/"))
		if err == nil {
			u.ascii, err = dialing.ASCII(u.host)
		}
	}
	if err != nil {
		return wrong("%s", err)
	}
	return u, nil
}

// streamPath checks the path of a Unix socket. PHP writes the abstract namespace with a NUL in
// front.
func streamPath(path string) (string, error) {
	if strings.HasPrefix(path, "\x00") {
		path = "@" + path[1:]
	}
	switch {
	case path == "" || path == "@":
		return "", fmt.Errorf("the path is missing")
	case strings.Contains(path, "\x00"):
		return "", fmt.Errorf("there is a NUL in the path")
	}
	return path, nil
}

// streamHostPort takes "host:port" apart. Both have to be there, but for the host of a server.
func streamHostPort(target string) (host string, port uint16, err error) {
	end := strings.LastIndexByte(target, ':')
	if end < 0 || strings.HasSuffix(target, "]") {
		return "", 0, fmt.Errorf("the port is missing")
	}
	host, digits := target[:end], target[end+1:]
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || strings.Trim(digits, "0123456789") != "" {
		return "", 0, fmt.Errorf("%q is no port from 0 to 65535", digits)
	}
	bracketed := len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']'
	if bracketed {
		host = host[1 : len(host)-1]
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() {
			return "", 0, fmt.Errorf("%q in brackets is no IPv6 address", host)
		}
	}
	switch {
	case len(host) > 255:
		return "", 0, fmt.Errorf("the host is longer than 255 bytes")
	case !bracketed && strings.Contains(host, ":"):
		return "", 0, fmt.Errorf("an IPv6 address needs brackets: [::1]:80")
	// The zone of an address may be any text for net/netip; interfaces have no such names.
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\?#@[]"'<>`, r) }):
		return "", 0, fmt.Errorf("%q is no host", host)
	}
	return host, uint16(number), nil
}

// datagrams is whether the stream is a socket that sends and receives packets.
func (u *streamURL) datagrams() bool {
	return strings.HasPrefix(u.network, "udp") || u.network == "unixgram"
}

// local is whether the stream is a Unix socket.
func (u *streamURL) local() bool { return u.path != "" }

// address returns what package socket connects to.
func (u *streamURL) address() string {
	if u.local() {
		return u.path
	}
	return net.JoinHostPort(u.host, strconv.Itoa(int(u.port)))
}
