package swoole

import (
	"errors"
	"math"
	"net/netip"
	"strings"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/tlsconfig"
)

// lengthType takes a letter of PHP's pack().
func lengthType(value any) (string, error) {
	s, err := option.Text(value)
	if err == nil && len(s) != 1 {
		err = errors.New("want one letter of PHP's pack()")
	}
	if err == nil {
		_, err = packet.NewLength(packet.LengthField{Type: s[0]}, math.MaxInt32)
	}
	return s, err
}

// lengthFunc takes one of the types that a package_length_func may have.
func lengthFunc(value any) (func([]byte) (int, error), error) {
	switch fn := value.(type) {
	case func([]byte) (int, error):
		return fn, notNil(fn == nil)
	case func([]byte) int:
		return func(header []byte) (int, error) { return fn(header), nil }, notNil(fn == nil)
	case func(string) int:
		return func(header []byte) (int, error) { return fn(string(header)), nil }, notNil(fn == nil)
	}
	return nil, option.WantType(
		"a func([]byte) int, func([]byte) (int, error) or func(string) int",
		value,
	)
}

func notNil(isNil bool) error {
	if isNil {
		return errors.New("the function is nil")
	}
	return nil
}

// localAddress takes an IP address, or the path of a Unix socket.
func localAddress(value any) (string, error) {
	address, err := option.Filled(value)
	if err != nil || strings.ContainsAny(address, "/@") {
		return address, err
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return "", errors.New("want an IP address, or the path of a Unix socket")
	}
	return address, nil
}

// sslOptions takes the options of TLS out of a map: what is left are the others.
func sslOptions(options map[string]any) (ssl, others map[string]any) {
	ssl, others = make(map[string]any), make(map[string]any, len(options))
	for name, value := range options {
		if strings.HasPrefix(name, "ssl_") {
			ssl[name] = value
		} else {
			others[name] = value
		}
	}
	return ssl, others
}

func optionError(name, why string) error { return ofOption(name, errors.New(why)) }

func ofOption(name string, err error) error {
	return &tlsconfig.OptionError{Option: name, Err: err}
}
