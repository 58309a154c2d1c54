package swoole

import (
	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/tlsconfig"
)

// framing is what the options about packets ask for. nil is: not given.
type framing struct {
	eofCheck, eofSplit, lengthCheck     *bool
	eof, lengthType                     *string
	lengthOffset, bodyOffset, bodyStart *int
	lengthFunc                          func([]byte) (int, error)
	maxLength                           int

	// What holds without package_eof and package_body_offset.
	defaultEOF        string
	defaultBodyOffset int
}

// framingTable has the options about packets, for settings that have a framing in them.
func framingTable[S any](of func(*S) *framing) option.Table[S] {
	return option.Table[S]{
		"open_eof_check": option.StoreGiven(option.Bool,
			func(s *S) **bool { return &of(s).eofCheck }),
		"open_eof_split": option.StoreGiven(option.Bool,
			func(s *S) **bool { return &of(s).eofSplit }),
		"package_eof": option.StoreGiven(option.Text,
			func(s *S) **string { return &of(s).eof }),
		"open_length_check": option.StoreGiven(option.Bool,
			func(s *S) **bool { return &of(s).lengthCheck }),
		"package_length_type": option.StoreGiven(lengthType,
			func(s *S) **string { return &of(s).lengthType }),
		"package_length_offset": option.StoreGiven(option.Offset,
			func(s *S) **int { return &of(s).lengthOffset }),
		"package_body_offset": option.StoreGiven(option.Offset,
			func(s *S) **int { return &of(s).bodyOffset }),
		"package_body_start": option.StoreGiven(option.Offset,
			func(s *S) **int { return &of(s).bodyStart }),
		"package_length_func": option.Store(lengthFunc,
			func(s *S) *func([]byte) (int, error) { return &of(s).lengthFunc }),
		"package_max_length": option.Store(option.Size,
			func(s *S) *int { return &of(s).maxLength }),

		"open_fastcgi_protocol":   option.Missing[S]("say package_length_func"),
		"open_http2_protocol":     option.Missing[S]("HTTP is net/http's, over package hooks"),
		"open_http_protocol":      option.Missing[S]("HTTP is net/http's, over package hooks"),
		"open_mqtt_protocol":      option.Missing[S]("say package_length_func"),
		"open_redis_protocol":     option.Missing[S]("there is no Redis"),
		"open_websocket_protocol": option.Missing[S]("WebSocket is package websocket's"),
	}
}

// rule puts the framing together.
func (f *framing) rule() (packet.Rule, error) {
	r := packet.Rule{Max: f.maxLength}
	eof := option.Is(f.eofCheck, false) || option.Is(f.eofSplit, false)
	delimiter := or(f.eof, f.defaultEOF)
	switch {
	case eof && delimiter == "":
		return r, optionError("package_eof", "is empty, but open_eof_check or open_eof_split is on")
	case !eof && f.eof != nil && f.eofCheck == nil && f.eofSplit == nil:
		return r, optionError("package_eof", "needs open_eof_check or open_eof_split")
	case f.bodyOffset != nil && f.bodyStart != nil && *f.bodyOffset != *f.bodyStart:
		return r, optionError("package_body_start",
			"is another name for package_body_offset, and contradicts it")
	}
	if f.lengthCheck == nil {
		for _, of := range []struct {
			name  string
			given bool
		}{
			{"package_length_type", f.lengthType != nil},
			{"package_length_offset", f.lengthOffset != nil},
			{"package_body_offset", f.bodyOffset != nil},
			{"package_body_start", f.bodyStart != nil},
			{"package_length_func", f.lengthFunc != nil},
		} {
			if of.given {
				return r, optionError(of.name, "needs open_length_check")
			}
		}
	}
	switch {
	case option.Is(f.lengthCheck, false) && f.lengthFunc != nil:
		r.Length.Func = f.lengthFunc
	case option.Is(f.lengthCheck, false):
		body := or(f.bodyOffset, or(f.bodyStart, f.defaultBodyOffset))
		r.Length = packet.LengthField{
			Type: or(f.lengthType, "N")[0], Offset: or(f.lengthOffset, 0), BodyOffset: body,
		}
	case eof:
		r.EOF = delimiter
	}
	// Each option for itself is right, so it is the limit that doesn't fit them.
	if _, err := r.Framer(); err != nil {
		return r, &tlsconfig.OptionError{Option: "package_max_length", Err: err}
	}
	return r, nil
}

// or returns what was given, or what holds where nothing was.
func or[T any](given *T, otherwise T) T {
	if given != nil {
		return *given
	}
	return otherwise
}
