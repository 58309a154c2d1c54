package client

import (
	"errors"
	"math"

	"github.com/whorl-go/whorl/internal/phpvalue"
	"github.com/whorl-go/whorl/packet"
)

// lengthType takes a letter of PHP's pack().
func lengthType(value any) (string, error) {
	s, err := phpvalue.Text(value)
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
	return nil, phpvalue.WantType("a func([]byte) int, func([]byte) (int, error) or func(string) int", value)
}

func notNil(isNil bool) error {
	if isNil {
		return errors.New("the function is nil")
	}
	return nil
}
