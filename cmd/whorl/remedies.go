package main

import (
	"errors"
	"fmt"

	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// remedies are the flags of a command against failures of TLS; empty where it has none.
type remedies struct {
	trust       string // against authorities that aren't trusted
	name        string // against a certificate for other hosts
	upgrade     string // against a server that doesn't begin with TLS
	certificate string // against a server that wants a client certificate
	passphrase  string // against a key that is encrypted
}

// against returns the flags against a cause.
func (r *remedies) against(cause explain.ID) string {
	switch cause {
	case explain.IDChainPrivateRoot, explain.IDChainUnknownIssuer, explain.IDCertSelfSigned,
		explain.IDRootsNone:
		return r.trust
	case explain.IDNameMismatch, explain.IDNameWildcard, explain.IDNameAddress,
		explain.IDNameCommonName, explain.IDNameNoSNI:
		return r.name
	case explain.IDPortStartTLS, explain.IDPortPlaintext, explain.IDTimeout, explain.IDClosed:
		return r.upgrade
	case explain.IDClientCertRequired:
		return r.certificate
	case explain.IDKeyEncrypted, explain.IDKeyPassphrase:
		return r.passphrase
	}
	return ""
}

// add adds to a failed handshake what mends it on this command line.
func (r *remedies) add(err error) error {
	refused, ok := errors.AsType[*explain.HandshakeError](err)
	if !ok {
		return err
	}
	if flags := r.against(refused.ID); flags != "" {
		return fmt.Errorf("%w; on this command line: %s", err, flags)
	}
	return err
}
