package option

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// WantType says that value is of the wrong type, and which one is wanted.
func WantType(want string, value any) error { return fmt.Errorf("want %s, got %T", want, value) }

// Bool takes a bool, and 0 and 1. Strings are refused: in PHP "false" is true.
func Bool(value any) (bool, error) {
	if b, ok := value.(bool); ok {
		return b, nil
	}
	switch n, err := Int(value); {
	case err == nil && n == 0:
		return false, nil
	case err == nil && n == 1:
		return true, nil
	}
	return false, WantType("a bool", value)
}

// Int takes any integer type, and a float64 that is an integer, as encoding/json decodes numbers.
func Int(value any) (int, error) {
	f, isFloat := value.(float64)
	// NaN and infinities fail.
	if isFloat && f == math.Trunc(f) && math.Abs(f) <= 1<<53 && float64(int(f)) == f {
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
	return 0, WantType("an integer", value)
}

// Text takes a string.
func Text(value any) (string, error) {
	if s, ok := value.(string); ok {
		return s, nil
	}
	return "", WantType("a string", value)
}

// Filled takes a string that isn't empty.
func Filled(value any) (string, error) {
	s, err := Text(value)
	if err == nil && s == "" {
		err = errors.New("is empty")
	}
	return s, err
}

// Path takes the path of a file or a directory. An empty one is refused: to leave the option out is
// clearer.
func Path(value any) (string, error) {
	path, ok := value.(string)
	switch {
	case !ok:
		return "", WantType("a string: a path", value)
	case path == "":
		return "", errors.New("the path is empty")
	}
	return path, nil
}

// Offset takes an integer that isn't negative.
func Offset(value any) (int, error) {
	n, err := Int(value)
	if err == nil && n < 0 {
		err = fmt.Errorf("is negative: %d", n)
	}
	return n, err
}

// Port takes the port of a server, 1 to 65535.
func Port(value any) (int, error) {
	n, err := Int(value)
	if err == nil && (n < 1 || n > 65535) {
		err = fmt.Errorf("want a port from 1 to 65535, got %d", n)
	}
	return n, err
}

// AnyPort takes a local port, or 0 for one that the kernel chooses.
func AnyPort(value any) (int, error) {
	if n, err := Int(value); err == nil && n == 0 {
		return 0, nil
	}
	return Port(value)
}

// Size takes a number of bytes, or a string such as "512K", "2M" or "1GB".
func Size(value any) (int, error) {
	var n int
	var err error
	if s, ok := value.(string); ok {
		if n, ok = parseSize(s); !ok {
			return 0, errors.New(`want a number of bytes, or a size such as "512K", "2M" or "1G"`)
		}
	} else if n, err = Int(value); err != nil {
		return 0, WantType(`a number of bytes, or a size such as "2M"`, value)
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

// Seconds takes a time-out: seconds as an integer or a float64, or a time.Duration. 0 stays 0,
// whatever is negative becomes -1, and the least is a millisecond.
func Seconds(value any) (time.Duration, error) {
	d, ok := value.(time.Duration)
	if !ok {
		f, isFloat := value.(float64)
		if !isFloat {
			n, err := Int(value)
			if err != nil {
				return 0, WantType("a number of seconds", value)
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
