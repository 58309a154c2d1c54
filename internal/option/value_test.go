package option

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func try[T any](t *testing.T, name string, convert func(any) (T, error), value any, want T, says string) {
	t.Helper()
	got, err := convert(value)
	switch {
	case says == "" && (err != nil || !reflect.DeepEqual(got, want)):
		t.Errorf("%s(%v): %v, %v, want %v", name, value, got, err, want)
	case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
		t.Errorf("%s(%v): %v, %v, want an error with %q", name, value, got, err, says)
	}
}

func TestValues(t *testing.T) {
	for _, value := range []any{7, int8(7), int64(7), uint8(7), uint64(7), 7.0, json.Number("7")} {
		if _, text := value.(json.Number); text {
			try(t, "Int", Int, value, 0, "want an integer, got json.Number")
			continue
		}
		try(t, "Int", Int, value, 7, "")
	}
	for _, value := range []any{7.5, math.NaN(), math.Inf(1), 1e300, uint64(math.MaxUint64)} {
		try(t, "Int", Int, value, 0, "fits an int")
	}
	try(t, "Int", Int, "7", 0, "want an integer, got string")
	try(t, "Int", Int, nil, 0, "got <nil>")

	try(t, "Bool", Bool, true, true, "")
	try(t, "Bool", Bool, 1, true, "")
	try(t, "Bool", Bool, 0.0, false, "")
	try(t, "Bool", Bool, 2, false, "want a bool")
	try(t, "Bool", Bool, "false", false, "want a bool")

	try(t, "Text", Text, "", "", "")
	try(t, "Text", Text, 5, "", "want a string, got int")
	try(t, "Filled", Filled, "a", "a", "")
	try(t, "Filled", Filled, "", "", "is empty")
	try(t, "Path", Path, "/a", "/a", "")
	try(t, "Path", Path, "", "", "the path is empty")
	try(t, "Path", Path, 5, "", "a path, got int")

	try(t, "Offset", Offset, 0, 0, "")
	try(t, "Offset", Offset, -1, 0, "is negative")
	try(t, "Port", Port, 65535, 65535, "")
	try(t, "Port", Port, 0, 0, "1 to 65535")
	try(t, "Port", Port, 65536, 0, "1 to 65535")
	try(t, "AnyPort", AnyPort, 0, 0, "")
	try(t, "AnyPort", AnyPort, -1, 0, "1 to 65535")

	try(t, "Size", Size, 5, 5, "")
	try(t, "Size", Size, "512K", 512<<10, "")
	try(t, "Size", Size, "2m", 2<<20, "")
	try(t, "Size", Size, "1GB", 1<<30, "")
	try(t, "Size", Size, "7B", 7, "")
	for _, value := range []any{"", "K", "-1K", "1.5M", "1T", "1KK", "99999999999"} {
		try(t, "Size", Size, value, 0, "want a number of bytes")
	}
	try(t, "Size", Size, 0, 0, "1 byte to 2 GiB")
	try(t, "Size", Size, "4G", 0, "1 byte to 2 GiB")
	try(t, "Size", Size, true, 0, `such as "2M", got bool`)

	try(t, "Seconds", Seconds, 0, 0, "")
	try(t, "Seconds", Seconds, 2, 2*time.Second, "")
	try(t, "Seconds", Seconds, 0.5, 500*time.Millisecond, "")
	try(t, "Seconds", Seconds, 1e-9, time.Millisecond, "")
	try(t, "Seconds", Seconds, 1e-300, time.Millisecond, "")
	try(t, "Seconds", Seconds, -1e-300, -1, "")
	try(t, "Seconds", Seconds, -5, -1, "")
	try(t, "Seconds", Seconds, math.Inf(1), math.MaxInt64, "")
	try(t, "Seconds", Seconds, 3*time.Second, 3*time.Second, "")
	try(t, "Seconds", Seconds, math.NaN(), 0, "NaN")
	try(t, "Seconds", Seconds, "5", 0, "want a number of seconds, got string")
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"512K", "1GB", "", "B", "0x1", "4294967295G"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := Size(text); err == nil && (n < 1 || n > math.MaxInt32) {
			t.Errorf("%q is %d", text, n)
		}
	})
}
