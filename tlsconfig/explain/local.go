package explain

import (
	"errors"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// Local turns the panic of a callback of this side's configuration (GetCertificate,
// VerifyConnection and so on), or its runtime.Goexit, into a *HandshakeError: it is not the peer's
// fault. Err is the panic as an error, the first line of which is printed: behind it may come its
// stack. Peer is the host or the address of the other side.
func Local(err error, peer string) error {
	if _, ok := errors.AsType[*HandshakeError](err); ok {
		return err
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return &HandshakeError{
		ID:     IDLocalFault,
		Reason: ReasonLocalFault,
		Host:   peer,
		Detail: "a callback of this side's TLS configuration did not return: " + text.Printable(
			line,
			text.MaxText,
		),
		Advice: "this program's log has the stack",
		Alert:  -1,
		Err:    err,
	}
}
