package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"unicode"

	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// phaseError is an error with the part of the operation in which it came up.
type phaseError struct {
	phase string
	err   error
}

func (e *phaseError) Error() string { return e.phase + ": " + e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

func failedIn(p phase, err error) error {
	if err == nil {
		return nil
	}
	return &phaseError{phaseNames[p], err}
}

// classify returns the class of an error, "phase: reason". There are few of them, whatever the
// server says.
func classify(err error) string {
	in := "message"
	if at, ok := errors.AsType[*phaseError](err); ok {
		in = at.phase
	}
	return in + ": " + reasonOf(err)
}

// reasons are searched from top to bottom.
var reasons = []struct {
	err    error
	reason string
}{
	{socket.ErrPlaintextPending, "plaintext behind the answer to STARTTLS"},
	{dialogue.ErrInjected, "plaintext behind the answer to STARTTLS"},
	{dialogue.ErrRefused, "STARTTLS refused"},
	{dialogue.ErrNotOffered, "STARTTLS not offered"},
	{dialogue.ErrPreauth, "logged in without TLS (PREAUTH)"},
	{dialogue.ErrProtocol, "malformed answer"},
	{packet.ErrPacketTooLarge, "message too large"},
	{packet.ErrMalformed, "malformed message"},
	{errNotUpgraded, "WebSocket refused"},
	{errCloseFrame, "closed by the server"},
	{errNoTicket, "no session ticket"},
	{errNoEcho, "not the echo of what was sent"},
	{errGone, "closed or reset"},
	{errUnanswered, "unanswered at the end"},
	{errStillWaiting, "the one before is unanswered"},
	{runtime.ErrTimeout, "timeout"},
	{context.DeadlineExceeded, "timeout"},
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset"},
	{syscall.EPIPE, "connection reset"},
	{syscall.EADDRNOTAVAIL, "no local port left (see --source)"},
	{syscall.EADDRINUSE, "local address in use"},
	{syscall.EMFILE, "no descriptor left (RLIMIT_NOFILE)"},
	{syscall.ENFILE, "no descriptor left (fs.file-max)"},
	{syscall.ENOSPC, "no watch left (fs.epoll.max_user_watches)"},
	{syscall.ENOBUFS, "no memory in the kernel"},
	{syscall.ENOMEM, "no memory in the kernel"},
	{syscall.ENETUNREACH, "network unreachable"},
	{syscall.EHOSTUNREACH, "host unreachable"},
	{syscall.ETIMEDOUT, "timeout"},
	{socket.ErrTruncated, "closed by the peer without close_notify"},
	{io.ErrUnexpectedEOF, "closed by the peer in a message"},
	{io.EOF, "closed by the peer"},
	{runtime.ErrTooMany, "too many coroutines"},
}

func reasonOf(err error) string {
	if refused, ok := errors.AsType[*explain.HandshakeError](err); ok {
		return string(refused.Reason)
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "name not found"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Sprintf("error %d of the system", int(errno))
	}
	return "other"
}

// describe returns an error's text on one line, without what could play tricks on a terminal.
func describe(err error) string {
	const most = 300
	text := strings.Map(func(c rune) rune {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, err.Error())
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
