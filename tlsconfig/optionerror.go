package tlsconfig

import "github.com/whorl-go/whorl/internal/text"

// An OptionError says which option can't be honoured, and why: a field of ServerOptions or
// ClientOptions, of package probe's Target or Options, or a name in a map that package dialect or
// swoole was given. Err may wrap a *CertificateError and an *fs.PathError.
type OptionError struct {
	Option string // its name, such as "MinVersion" or "ssl_cafile"
	Err    error
}

// Error returns one line: the option and the cause.
func (e *OptionError) Error() string {
	return "option " + text.Printable(e.Option, text.MaxText) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }
