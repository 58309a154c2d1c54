// Package names says which names can be sent in a handshake, and in which form they are compared.
package names

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// NoSNI is tlsconfig.NoSNI.
const NoSNI = "."

// Server returns host in the form in which crypto/tls verifies it and sends it: no trailing dot, no
// brackets, no IPv6 zone, lower case. The result is never NoSNI.
func Server(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	host = strings.TrimRight(host, ".")
	// ASCII only: strings.ToLower would turn the Kelvin sign into a k, and so one host's name into
	// another's.
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, host)
}

// CheckProtocols refuses what ALPN can't carry (RFC 7301, section 3.1).
func CheckProtocols(protocols []string) error {
	for i, protocol := range protocols {
		switch {
		case protocol == "" || len(protocol) > 255:
			return errors.New("want protocols of 1 to 255 bytes")
		case slices.Contains(protocols[:i], protocol):
			return fmt.Errorf("%s is there twice", text.Quoted(protocol))
		}
	}
	return nil
}

// CheckPattern refuses what is no name that a server can be asked for by SNI. "*." may come first.
func CheckPattern(name string) error {
	host := strings.TrimPrefix(name, "*.")
	if host == "" || strings.HasSuffix(host, ".") || strings.HasPrefix(host, ".") {
		return fmt.Errorf(
			"%s is no name for a server: want host.example.com or *.example.com",
			text.Quoted(name),
		)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return fmt.Errorf(
			"%s is an address: clients send names only (RFC 6066, section 3)",
			text.Quoted(name),
		)
	}
	return CheckHost(host)
}

// CheckHost refuses what can't be a host's name on the wire. Empty is well: it switches SNI off.
func CheckHost(name string) error {
	if len(name) > 255 {
		return errors.New("the name is longer than 255 bytes")
	}
	for _, r := range name {
		switch {
		case r > '~':
			return errors.New("want the ASCII form of an international name (xn--…)")
		case r <= ' ' || strings.ContainsRune(`/\"'@,*`, r):
			return fmt.Errorf("%s is no host name", text.Quoted(name))
		}
	}
	if name != "" && Server(name) == "" {
		return fmt.Errorf("%s is no host name", text.Quoted(name))
	}
	return nil
}
