package dialect

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/names"
	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig"
)

// The functions in this file take the value of one option, of Swoole's or of PHP's streams.

func hostName(value any) (string, error) {
	name, err := option.Text(value)
	if err != nil {
		return "", err
	}
	return name, names.CheckHost(name)
}

// peerName is hostName for a name under which an empty one has no meaning.
func peerName(value any) (string, error) {
	if name, err := option.Filled(value); err != nil {
		return name, err
	}
	return hostName(value)
}

func verifyDepth(value any) (int, error) {
	depth, err := option.Int(value)
	if err == nil && (depth < 0 || depth > 100) {
		err = fmt.Errorf(
			"want 1 to 100 intermediate certificates, or 0 for no limit, got %d",
			depth,
		)
	}
	return depth, err
}

func ciphers(value any) ([]uint16, error) {
	list, ok := value.(string)
	if !ok {
		return nil, option.WantType("a string: an OpenSSL cipher list", value)
	}
	return parseCiphers(list)
}

func groups(value any) ([]tls.CurveID, error) {
	list, ok := value.(string)
	if !ok {
		return nil, option.WantType(`a string: "auto" or names with colons between them`, value)
	}
	return parseGroups(list)
}

// alpnProtocols takes a list with commas, such as "h2,http/1.1".
func alpnProtocols(value any) ([]string, error) {
	text, err := option.Filled(value)
	if err != nil {
		return nil, err
	}
	protocols := strings.Split(text, ",")
	return protocols, names.CheckProtocols(protocols)
}

// serverNames returns the function that takes a map of names to certificates, with these names of
// options in it.
func serverNames(
	certFile, keyFile, passphrase string,
	keyInCert bool,
) func(any) ([]tlsconfig.ServerCertificate, error) {
	fields := option.Table[tlsconfig.ServerCertificate]{
		certFile: option.Store(
			option.Filled,
			func(c *tlsconfig.ServerCertificate) *string { return &c.CertFile },
		),
		keyFile: option.Store(
			option.Filled,
			func(c *tlsconfig.ServerCertificate) *string { return &c.KeyFile },
		),
		passphrase: option.Store(
			option.Filled,
			func(c *tlsconfig.ServerCertificate) *string { return &c.Passphrase },
		),
	}
	return func(value any) ([]tlsconfig.ServerCertificate, error) {
		byName, err := option.Map(value)
		if err != nil {
			return nil, option.WantType("a map of names to certificates", value)
		}
		var certs []tlsconfig.ServerCertificate
		for _, name := range sortedKeys(byName) {
			cert := tlsconfig.ServerCertificate{Names: []string{name}}
			if err := names.CheckPattern(name); err != nil {
				return nil, err
			}
			if path, ok := byName[name].(string); ok && keyInCert {
				cert.CertFile, cert.KeyFile = path, path
			} else {
				inner, err := option.Map(byName[name])
				if err != nil {
					return nil, fmt.Errorf("%s: %w", text.Quoted(name), err)
				}
				err = fields.Set(&cert, inner, func(of string, err error) error {
					of = text.Printable(of, text.MaxName)
					return fmt.Errorf("%s: %s: %w", text.Quoted(name), of, err)
				})
				if err != nil {
					return nil, err
				}
			}
			if cert.KeyFile == "" && keyInCert {
				cert.KeyFile = cert.CertFile
			}
			if cert.CertFile == "" || cert.KeyFile == "" {
				return nil, fmt.Errorf("%s: want %s and %s", text.Quoted(name), certFile, keyFile)
			}
			certs = append(certs, cert)
		}
		if len(certs) == 0 {
			return nil, errors.New("the map is empty")
		}
		return certs, nil
	}
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// protocolBits are Swoole's SWOOLE_SSL_* constants, oldest first.
var protocolBits = []struct {
	bit     int
	name    string
	version uint16 // 0: crypto/tls does not have it
}{
	{2, "SSLv2", 0},
	{4, "SSLv3", 0},
	{8, "TLS 1.0", tls.VersionTLS10},
	{16, "TLS 1.1", tls.VersionTLS11},
	{32, "TLS 1.2", tls.VersionTLS12},
	{64, "TLS 1.3", tls.VersionTLS13},
	{128, "DTLS", 0},
}

// parseProtocols returns the lowest and the highest version in the mask; both are 0, for the
// default, if it is 0. TLS 1.0 and 1.1 are below the floor, but to set their bits is to ask for
// them by name.
func parseProtocols(mask int) (lowest, highest uint16, err error) {
	rest := mask
	for _, p := range protocolBits {
		if mask&p.bit == 0 {
			continue
		}
		rest &^= p.bit
		switch {
		case p.version == 0:
			return 0, 0, fmt.Errorf("bit %d is %s, which crypto/tls does not have", p.bit, p.name)
		case lowest == 0:
			lowest = p.version
		case p.version != highest+1: // the versions are consecutive numbers
			return 0, 0, fmt.Errorf(
				"%d has a hole between %s and %s: only a range without holes can be had",
				mask,
				tls.VersionName(highest),
				tls.VersionName(p.version),
			)
		}
		highest = p.version
	}
	if rest != 0 {
		return 0, 0, fmt.Errorf("%d has bits that stand for no protocol (%d)", mask, rest)
	}
	return lowest, highest, nil
}

// protocolMask takes a sum of SWOOLE_SSL_*: nil if it is 0, else the lowest and the highest
// version.
func protocolMask(value any) ([]uint16, error) {
	mask, err := option.Int(value)
	if err != nil || mask == 0 {
		return nil, err
	}
	lowest, highest, err := parseProtocols(mask)
	return []uint16{lowest, highest}, err
}

// anyTLS are the bits of the versions that PHP's constants for "any version" have all.
const anyTLS = 8 | 16 | 32 | 64

// cryptoMethod returns the function that takes a sum of STREAM_CRYPTO_METHOD_*, whose lowest bit
// says that it is a client's. The other bits are Swoole's. To ask for any version is not to ask for
// TLS 1.0 by name: that gives nil, the default.
func cryptoMethod(clientBit int) func(any) ([]uint16, error) {
	return func(value any) ([]uint16, error) {
		mask, err := option.Int(value)
		switch {
		case err != nil:
			return nil, err
		case mask&1 != clientBit && clientBit == 1:
			return nil, fmt.Errorf(
				"%d is a method of servers: use a constant that ends in _CLIENT",
				mask,
			)
		case mask&1 != clientBit:
			return nil, fmt.Errorf(
				"%d is a method of clients: use a constant that ends in _SERVER",
				mask,
			)
		case mask > 1 && mask < 128 && mask&anyTLS == anyTLS:
			return nil, nil
		}
		mask &^= 1
		if mask == 0 {
			return nil, errors.New("names no protocol")
		}
		lowest, highest, err := parseProtocols(mask)
		return []uint16{lowest, highest}, err
	}
}

// protoVersion takes one of STREAM_CRYPTO_PROTO_*.
func protoVersion(value any) (uint16, error) {
	bit, err := option.Int(value)
	if err != nil {
		return 0, err
	}
	lowest, highest, err := parseProtocols(bit)
	if err == nil && (lowest != highest || bit == 0) {
		err = fmt.Errorf("%d is not one version", bit)
	}
	return lowest, err
}

// groupNames has OpenSSL's names of the groups that crypto/tls has, in lower case.
var groupNames = map[string]tls.CurveID{
	"x25519":             tls.X25519,
	"p-256":              tls.CurveP256,
	"prime256v1":         tls.CurveP256,
	"secp256r1":          tls.CurveP256,
	"p-384":              tls.CurveP384,
	"secp384r1":          tls.CurveP384,
	"p-521":              tls.CurveP521,
	"secp521r1":          tls.CurveP521,
	"x25519mlkem768":     tls.X25519MLKEM768,
	"secp256r1mlkem768":  tls.SecP256r1MLKEM768,
	"secp384r1mlkem1024": tls.SecP384r1MLKEM1024,
}

// parseGroups returns the groups of a list with colons, or nil, for Go's default, if it is "auto".
func parseGroups(list string) ([]tls.CurveID, error) {
	if strings.EqualFold(list, "auto") {
		return nil, nil
	}
	var groups []tls.CurveID
	for word := range strings.SplitSeq(list, ":") {
		group, ok := groupNames[strings.ToLower(word)]
		if !ok {
			return nil, fmt.Errorf(
				"%s is no group that crypto/tls has; it has X25519MLKEM768, SecP256r1MLKEM768, "+
					"SecP384r1MLKEM1024, X25519, prime256v1, secp384r1, secp521r1",
				text.Quoted(word),
			)
		}
		groups = append(groups, group)
	}
	return groups, nil
}
