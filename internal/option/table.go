// Package option is how options are said in maps, under the names that Swoole and PHP have for
// them: tables of what each name does, and conversions that take values as PHP code or a JSON file
// has them: an integer of any type, a boolean that may be 0 or 1, a size such as "2M".
//
// Nothing is dropped in silence. A table has every name that is known: what can't be had is there
// as well, with a setter that says why.
//
// No error of it prints a value: it may be a password.
package option

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Setter stores the value of one option in the settings S, or says what is wrong with it.
type Setter[S any] func(s *S, value any) error

// A Table has the setters of all names that are known.
type Table[S any] map[string]Setter[S]

// Set stores the values of all options in s. One that is nil (PHP's null) is not given. All
// mistakes are reported, in the order of the options' names: who ports a program wants to know what
// of its options there isn't, not the first of them. wrap makes the error of an option.
func (t Table[S]) Set(
	s *S, options map[string]any, wrap func(name string, err error) error,
) error {
	var wrong Mistakes
	for _, name := range slices.Sorted(maps.Keys(options)) {
		set, known := t[name]
		err := errors.New("no such option")
		if value := options[name]; value == nil && known {
			err = nil
		} else if known {
			err = set(s, value)
		}
		if err != nil {
			wrong = append(wrong, wrap(name, err))
		}
	}
	return wrong.Err()
}

// Mistakes is several errors on one line.
type Mistakes []error

// Err returns them as an error; nil if there are none, or nil ones only.
func (m Mistakes) Err() error {
	switch m = slices.DeleteFunc(m, func(err error) bool { return err == nil }); len(m) {
	case 0:
		return nil
	case 1:
		return m[0]
	}
	return m
}

// Error has all of them.
func (m Mistakes) Error() string {
	texts := make([]string, len(m))
	for i, err := range m {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns them.
func (m Mistakes) Unwrap() []error { return m }

// Store sets a field for which the zero value means that the option was not given.
func Store[S, T any](convert func(any) (T, error), field func(*S) *T) Setter[S] {
	return func(s *S, value any) (err error) {
		*field(s), err = convert(value)
		return err
	}
}

// StoreGiven sets a field for which it matters that the option was given.
func StoreGiven[S, T any](convert func(any) (T, error), field func(*S) **T) Setter[S] {
	return func(s *S, value any) error {
		converted, err := convert(value)
		*field(s) = &converted
		return err
	}
}

// Ignore is for an option whose every value is honoured without doing anything.
func Ignore[S, T any](convert func(any) (T, error)) Setter[S] {
	return func(_ *S, value any) error {
		_, err := convert(value)
		return err
	}
}

// Refuse is for an option that can't be honoured, whatever its value.
func Refuse[S any](why error) Setter[S] { return func(*S, any) error { return why } }

// RefuseIf is for a switch of which only the other position can be honoured.
func RefuseIf[S any](position bool, why string) Setter[S] {
	return func(_ *S, value any) error {
		b, err := Bool(value)
		if err == nil && b == position {
			err = fmt.Errorf("%t can't be honoured: %s", b, why)
		}
		return err
	}
}

// Missing is for an option that has no counterpart: to switch it off asks for nothing, all else
// can't be honoured.
func Missing[S any](why string) Setter[S] {
	return func(_ *S, value any) error {
		if on, err := Bool(value); err == nil && !on {
			return nil
		}
		return errors.New("can't be honoured: " + why)
	}
}

// Is reports what a switch says, or what holds where it was not given.
func Is(given *bool, otherwise bool) bool {
	if given == nil {
		return otherwise
	}
	return *given
}

// Map takes the types that a map of options has in Go and out of a JSON file.
func Map(value any) (map[string]any, error) {
	switch m := value.(type) {
	case map[string]any:
		return m, nil
	case map[string]string:
		return widened(m), nil
	case map[string]map[string]string:
		return widened(m), nil
	case map[string]map[string]any:
		return widened(m), nil
	}
	return nil, WantType("a map", value)
}

func widened[V any](m map[string]V) map[string]any {
	out := make(map[string]any, len(m))
	for name, value := range m {
		out[name] = value
	}
	return out
}
