package dialing

import (
	"errors"
	"net"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// Explain says why a handshake has failed, as a *explain.HandshakeError: by other, which is
// explain.Client or explain.Server with what they have to know, or, if a callback of the TLS
// configuration has not returned, as this side's fault. Errors that come before any handshake, or
// of a connection that somebody else has closed, are returned as they are. peer is whose fault it
// isn't.
func Explain(err error, peer string, other func(err error) error) error {
	if err == nil {
		return nil
	}
	for _, plain := range []error{socket.ErrSSLActive, socket.ErrBusy, socket.ErrPlaintextPending, net.ErrClosed} {
		if errors.Is(err, plain) {
			return err
		}
	}
	if _, ok := errors.AsType[*runtime.PanicError](err); ok || errors.Is(err, runtime.ErrGoexit) {
		return explain.Local(err, peer)
	}
	return other(err)
}
