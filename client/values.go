package client

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/packet"
)

// The functions in this file take the value of one option, as PHP code or a JSON file has it. Their errors don't print it: it may be a password.

func wantType(want string, value any) error { return fmt.Errorf("want %s, got %T", want, value) }

// boolean takes a bool, and 0 and 1. Strings are refused: in PHP "false" is true.
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

// integer takes any integer type, and a float64 that is an integer.
func integer(value any) (int, error) {
	f, isFloat := value.(float64)
	if isFloat && f == math.Trunc(f) && math.Abs(f) <= 1<<53 { // NaN and infinities fail
		return int(f), nil
	}
	switch v := reflect.ValueOf(value); {
	case v.CanInt() && int64(int(v.Int())) == v.Int():
		return int(v.Int()), nil
	case v.CanUint() && v.Uint() <= math.MaxInt:
		return int(v.Uint()), nil
	case v.CanInt(), v.CanUint(), isFloat:
		return 0, errors.New("want an integer that fits an int")
	}
	return 0, wantType("an integer", value)
}

func text(value any) (string, error) {
	if s, ok := value.(string); ok {
		return s, nil
	}
	return "", wantType("a string", value)
}

// filled takes a string that isn't empty.
func filled(value any) (string, error) {
	s, err := text(value)
	if err == nil && s == "" {
		err = errors.New("is empty")
	}
	return s, err
}

func offset(value any) (int, error) {
	n, err := integer(value)
	if err == nil && n < 0 {
		err = fmt.Errorf("is negative: %d", n)
	}
	return n, err
}

// port takes the port of a server.
func port(value any) (int, error) {
	n, err := integer(value)
	if err == nil && (n < 1 || n > 65535) {
		err = fmt.Errorf("want a port from 1 to 65535, got %d", n)
	}
	return n, err
}

// anyPort takes a local port, or 0 for one that the kernel chooses.
func anyPort(value any) (int, error) {
	if n, err := integer(value); err == nil && n == 0 {
		return 0, nil
	}
	return port(value)
}

// size takes a number of bytes, or a string such as "512K", "2M" or "1GB".
func size(value any) (int, error) {
	var n int
	var err error
	if s, ok := value.(string); ok {
		if n, ok = parseSize(s); !ok {
			return 0, errors.New(`want a number of bytes, or a size such as "512K", "2M" or "1G"`)
		}
	} else if n, err = integer(value); err != nil {
		return 0, wantType(`a number of bytes, or a size such as "2M"`, value)
	}
	if n < 1 || n > math.MaxInt32 {
		return 0, fmt.Errorf("want 1 byte to 2 GiB, got %d", n)
	}
	return n, nil
}

func parseSize(s string) (n int, ok bool) {
	s = strings.TrimSuffix(strings.ToUpper(s), "B")
	digits := strings.TrimRight(s, "KMG")
	shift, ok := map[string]int{"": 0, "K": 10, "M": 20, "G": 30}[s[len(digits):]]
	number, err := strconv.ParseUint(digits, 10, 32)
	return int(number << shift), ok && err == nil
}

// seconds takes a time-out: 0 stays 0, and whatever is negative becomes -1.
func seconds(value any) (time.Duration, error) {
	d, ok := value.(time.Duration)
	if !ok {
		f, isFloat := value.(float64)
		if !isFloat {
			n, err := integer(value)
			if err != nil {
				return 0, wantType("a number of seconds", value)
			}
			f = float64(n)
		}
		if math.IsNaN(f) {
			return 0, errors.New("want a number of seconds, got NaN")
		}
		d = math.MaxInt64 // so long that it is none
		if f < d.Seconds() {
			d = time.Duration(max(f, -1) * float64(time.Second))
		}
		if d == 0 && f != 0 {
			d = time.Duration(math.Copysign(1, f))
		}
	}
	switch {
	case d < 0:
		return -1, nil
	case d > 0:
		return max(d, time.Millisecond), nil
	}
	return 0, nil
}

// lengthType takes a letter of PHP's pack().
func lengthType(value any) (string, error) {
	s, err := text(value)
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
	return nil, wantType("a func([]byte) int, func([]byte) (int, error) or func(string) int", value)
}

func notNil(isNil bool) error {
	if isNil {
		return errors.New("the function is nil")
	}
	return nil
}
