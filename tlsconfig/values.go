package tlsconfig

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// wantType says that value is of the wrong type. The value itself is not printed: it may be a passphrase.
func wantType(want string, value any) error {
	return fmt.Errorf("want %s, got %T", want, value)
}

// boolean takes a bool, and 0 and 1 as PHP code has them. Strings are refused: in PHP "false" is true.
func boolean(value any) (bool, error) {
	if b, ok := value.(bool); ok {
		return b, nil
	}
	switch n, err := integer(value); {
	case err == nil && n == 0:
		return false, nil
	case err == nil && n == 1:
		return true, nil
	}
	return false, wantType("a bool", value)
}

// integer takes any integer type, and a float64 that is an integer, as encoding/json decodes numbers.
func integer(value any) (int64, error) {
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n := v.Uint(); n <= math.MaxInt64 {
			return int64(n), nil
		}
		return 0, errors.New("want an integer below 2^63")
	case reflect.Float64:
		f := v.Float()
		if f != math.Trunc(f) || math.Abs(f) > 1<<53 { // NaN and infinities fail here too
			return 0, errors.New("want an integer, got a float64 that is none")
		}
		return int64(f), nil
	}
	return 0, wantType("an integer", value)
}

// pathSetter stores the path of a file or a directory. An empty one is refused: to leave the option out is clearer.
func pathSetter(field func(*clientOptions) *string) func(*clientOptions, any) error {
	return func(o *clientOptions, value any) error {
		path, ok := value.(string)
		if !ok {
			return wantType("a string: a path", value)
		}
		if path == "" {
			return errors.New("the path is empty")
		}
		*field(o) = path
		return nil
	}
}

// refuseIf accepts only the boolean that asks for nothing.
func refuseIf(asks bool, why string) func(*clientOptions, any) error {
	return func(_ *clientOptions, value any) error {
		b, err := boolean(value)
		if err == nil && b == asks {
			err = fmt.Errorf("%t can't be honoured: %s", b, why)
		}
		return err
	}
}

// checkHostName refuses what can't be a host's name on the wire. Empty is well: it switches SNI off.
func checkHostName(name string) error {
	if len(name) > 255 {
		return errors.New("the name is longer than 255 bytes")
	}
	for _, r := range name {
		switch {
		case r > '~':
			return errors.New("want the ASCII form of an international name (xn--…)")
		case r <= ' ' || strings.ContainsRune(`/\"'@,*`, r):
			return fmt.Errorf("%s is no host name", quoted(name))
		}
	}
	if name != "" && serverName(name) == "" {
		return fmt.Errorf("%s is no host name", quoted(name))
	}
	return nil
}

// protocolBits are Swoole's SWOOLE_SSL_* constants, oldest first.
var protocolBits = []struct {
	bit     int64
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

// parseProtocols returns the lowest and the highest version in the mask; both are 0, for the default, if it is 0.
// TLS 1.0 and 1.1 are below the floor, but to set their bits is to ask for them by name.
func parseProtocols(mask int64) (lowest, highest uint16, err error) {
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
			return 0, 0, fmt.Errorf("%d has a hole between %s and %s: only a range without holes can be had",
				mask, tls.VersionName(highest), tls.VersionName(p.version))
		}
		highest = p.version
	}
	if rest != 0 {
		return 0, 0, fmt.Errorf("%d has bits that stand for no protocol (%d)", mask, rest)
	}
	return lowest, highest, nil
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
			return nil, fmt.Errorf("%s is no group that crypto/tls has; it has X25519MLKEM768, SecP256r1MLKEM768, "+
				"SecP384r1MLKEM1024, X25519, prime256v1, secp384r1, secp521r1", quoted(word))
		}
		groups = append(groups, group)
	}
	return groups, nil
}
