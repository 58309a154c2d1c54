package tlsconfig

import (
	"strings"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// A CertificateError says what is wrong with a certificate, its key, or a file of authorities, and
// what mends it. All that is found before a handshake comes as one: by NewServer, Server.Reload,
// Server.Warnings, and wrapped in an *OptionError by ClientOptions.Config.
//
// Reason is stable: a program may decide by it, and metrics may count by it. Names out of
// certificates are quoted and cut. Passphrases and keys never appear.
type CertificateError struct {
	Reason explain.Reason
	// The file's path; "certificate 2" for the second one of ServerOptions where it was given in
	// memory.
	File   string
	Detail string // what was found; one line, may be empty
	Advice string // what mends it; one line, may be empty
	Err    error  // the cause, such as an *fs.PathError; may be nil

	id      explain.ID // "" if Reason says it all
	inKey   bool       // it is about the key's file, not the certificate's
	warning bool       // some clients may live with it
}

// Error returns file, reason, detail and advice, on one line.
func (e *CertificateError) Error() string {
	var b strings.Builder
	b.WriteString(text.Printable(e.File, text.MaxText) + ": " + string(e.Reason))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// ID names the cause, more finely than Reason does.
func (e *CertificateError) ID() explain.ID {
	if e.id != "" {
		return e.id
	}
	return e.Reason.ID()
}

// Warning reports whether it is something that only some clients stumble over.
func (e *CertificateError) Warning() bool { return e.warning }

// Unwrap returns the cause.
func (e *CertificateError) Unwrap() error { return e.Err }
