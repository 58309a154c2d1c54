package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/whorl-go/whorl/internal/reply"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/starttls"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// explain returns an error of the client for people, who know flags and not the API.
func (s *session) explain(err error) error {
	if failure, ok := errors.AsType[*starttls.Error](err); ok {
		return fmt.Errorf("%s: %w", failure.Phase, s.explain(failure.Err))
	}
	if handshake, ok := errors.AsType[*explain.HandshakeError](err); ok {
		return explainHandshake(handshake)
	}
	name, unknown := errors.AsType[*net.DNSError](err)
	network, isNetwork := errors.AsType[net.Error](err)
	switch {
	case unknown:
		return fmt.Errorf("no address for %s: %s", quote(name.Name), reply.Printable(name.Err))
	case isNetwork && network.Timeout():
		return fmt.Errorf("no answer within %v", s.timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf(
			"%s refuses the connection: does the server run, and is this its port?",
			s.addr,
		)
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("the server reset the connection")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection")
	case errors.Is(err, packet.ErrPacketTooLarge):
		return fmt.Errorf("a line of the reply has more than %d bytes", maxReplyLine)
	}
	return errors.New(reply.Printable(err.Error()))
}

func explainHandshake(err *explain.HandshakeError) error {
	advice := ""
	switch err.Reason {
	case explain.ReasonUnknownAuthority, explain.ReasonSelfSigned, explain.ReasonNoRoots:
		advice = " (-ca says whom to trust)"
	case explain.ReasonNameMismatch:
		advice = " (-server-name says whom to expect)"
	case explain.ReasonPlaintext:
		advice = " (injected behind its 220?)"
	}
	return fmt.Errorf("%s: %s%s", err.Reason, err.Detail, advice)
}
