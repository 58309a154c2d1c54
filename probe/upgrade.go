package probe

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// upgrade has the dialogue of the target's protocol, and TLS.
func (p *prober) upgrade(ctx context.Context, c *client.Client) (*starttls.Session, error) {
	return starttls.Upgrade(ctx, c, *p.protocol, starttls.Options{})
}

// whereFailed returns the layer in which a session was not made.
func whereFailed(failure error) string {
	e, ok := errors.AsType[*starttls.Error](failure)
	switch {
	case !ok:
		return layerHandshake
	case e.Phase == starttls.PhaseSession:
		return layerAnswer
	case e.Phase != starttls.PhaseHandshake, inPlaintext(failure):
		return layerStartTLS
	}
	return layerHandshake
}

// inPlaintext reports whether plaintext came where TLS was to begin.
func inPlaintext(failure error) bool {
	return errors.Is(failure, starttls.ErrPlaintextAfterUpgrade) ||
		errors.Is(failure, starttls.ErrPlaintextDuringHandshake)
}

// startTLSFinding says why the dialogue has failed.
func (p *prober) startTLSFinding(ctx context.Context, failure error) Finding {
	e, ok := errors.AsType[*starttls.Error](failure)
	if !ok {
		return found(IDStartProtocol, layerStartTLS, text.Printable(failure.Error(), text.MaxText))
	}
	evidence := text.Printable(fmt.Sprintf("%s: %v", e.Phase, e.Err), text.MaxText)
	switch {
	case e.Phase == starttls.PhaseSession:
		return found(IDStartSession, layerAnswer, evidence)
	case inPlaintext(failure):
		return found(IDStartInjected, layerStartTLS, evidence)
	case errors.Is(failure, starttls.ErrNotOffered):
		return found(IDNotOffered, layerStartTLS, evidence)
	case errors.Is(failure, starttls.ErrRefused), errors.Is(failure, starttls.ErrPreauth):
		return found(IDStartRefused, layerStartTLS, evidence)
	case p.implicit(ctx):
		return found(IDPortImplicit, layerStartTLS, evidence+"; TLS from the start works")
	case isTimeout(failure):
		return found(IDPortSilent, layerStartTLS, evidence)
	case errors.Is(failure, io.EOF), errors.Is(failure, io.ErrUnexpectedEOF):
		return Finding{explain.IDClosed, Error, layerStartTLS, evidence,
			"Look at the server's log for why it hangs up: a limit, or a block list."}
	}
	return found(IDStartProtocol, layerStartTLS, evidence)
}

// implicit reports whether the port speaks TLS from the start.
func (p *prober) implicit(ctx context.Context) bool {
	direct := *p
	direct.protocol = nil
	s, err := direct.shake(ctx, anything())
	if err == nil {
		s.close()
	}
	return err == nil
}
