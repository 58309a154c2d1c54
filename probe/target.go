package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/whorl-go/whorl/tlsconfig"
)

// A Target is what to probe.
type Target struct {
	Host string `json:"host"` // a name, or an address without brackets
	Port int    `json:"port"`

	// StartTLS is the protocol in which to ask for TLS, "smtp" for instance; see package starttls.
	// Empty: TLS from the start.
	StartTLS string `json:"starttls,omitempty"`

	// ServerName is the name to ask for and to verify; empty: Host.
	ServerName string `json:"server_name,omitempty"`

	// Scheme is "https" or "wss" if an answer of HTTP or a WebSocket is expected behind TLS, at
	// Path; else empty.
	Scheme string `json:"scheme,omitempty"`
	Path   string `json:"path,omitempty"` // with the query; empty: "/"
}

// ParseTarget reads "host:port", or a URL with the scheme https or wss.
func ParseTarget(text string) (Target, error) {
	if !strings.Contains(text, "://") {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			return Target{}, fmt.Errorf(
				"%q: want HOST:PORT, or a URL with https:// or wss://",
				text,
			)
		}
		return targetOf(host, port)
	}
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, err
	}
	if u.Scheme != "https" && u.Scheme != "wss" {
		return Target{}, fmt.Errorf("%q: the scheme has to be https or wss", text)
	}
	if u.User != nil {
		return Target{}, errors.New("a user in the URL isn't sent: what lets in is for a header")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	t, err := targetOf(u.Hostname(), port)
	t.Scheme, t.Path = u.Scheme, u.RequestURI()
	return t, err
}

func targetOf(host, port string) (Target, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case host == "":
		return Target{}, errors.New("the host is missing")
	case err != nil || number == 0:
		return Target{}, fmt.Errorf("port %q: want a number from 1 to 65535", port)
	}
	return Target{Host: host, Port: int(number)}, nil
}

// String returns "host:port", with the protocol of STARTTLS if there is one, or the URL.
func (t Target) String() string {
	text := net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
	if t.Scheme != "" {
		text = t.Scheme + "://" + text + t.Path
	}
	if t.StartTLS != "" {
		text += " (STARTTLS in " + t.StartTLS + ")"
	}
	return text
}

// name is whose certificate is expected.
func (t Target) name() string {
	if t.ServerName != "" {
		return strings.TrimSuffix(t.ServerName, ".")
	}
	return strings.TrimSuffix(t.Host, ".")
}

// byAddress reports whether the name is an address, which is never sent as SNI (RFC 6066,
// section 3).
func (t Target) byAddress() bool {
	_, err := netip.ParseAddr(t.name())
	return err == nil
}

func (t Target) check() error {
	switch {
	case t.Host == "":
		return wrong("Host", errors.New("is empty"))
	case t.Port < 1 || t.Port > 65535:
		return wrong("Port", fmt.Errorf("is %d", t.Port))
	case t.Scheme != "" && t.Scheme != "https" && t.Scheme != "wss":
		return wrong("Scheme", fmt.Errorf("is %q, must be https or wss", t.Scheme))
	case t.Scheme != "" && t.StartTLS != "":
		return wrong("StartTLS", fmt.Errorf("with %s TLS is from the start", t.Scheme))
	}
	for _, part := range []struct{ name, value string }{
		{"Host", t.Host}, {"ServerName", t.ServerName}, {"Path", t.Path},
	} {
		if unfit(part.value) {
			return wrong(part.name, errors.New("there is a space or a control character in it"))
		}
	}
	return nil
}

// wrong says which field of a Target or of Options can't be used.
func wrong(field string, err error) error {
	return fmt.Errorf("probe: %w", &tlsconfig.OptionError{Option: field, Err: err})
}

// unfit reports whether a part of a target can't be sent.
func unfit(part string) bool {
	return strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
