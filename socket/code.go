package socket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/whorl-go/whorl/runtime"
)

// Swoole's numbers for what has no errno (SW_ERROR_…, include/swoole_error.h).
const (
	codeChannelTimeout = -1 // Channel::$errCode
	codeChannelClosed  = -2

	codeNameTooLong      = 504
	codeWrongOperation   = 509
	codeNotFound         = 711 // DNSLOOKUP_RESOLVE_FAILED
	codeLookupTimeout    = 712 // DNSLOOKUP_RESOLVE_TIMEOUT
	codeBadIPv6          = 720 // BAD_IPV6_ADDRESS
	codeBadHost          = 722 // BAD_HOST_ADDR
	codeBadPort          = 723
	codeBadSocketType    = 724
	codeOutputOverflow   = 1009 // OUTPUT_BUFFER_OVERFLOW
	codeSSLVerify        = 1014 // SSL_VERIFY_FAILED
	codeSSLBadClient     = 1015
	codeSSLBadProtocol   = 1016
	codeSSLReset         = 1017
	codeSSLHandshake     = 1018 // SSL_HANDSHAKE_FAILED
	codeNoConnection     = 5001 // CLIENT_NO_CONNECTION
	codeOutsideCoroutine = 10001
	codeBound            = 10002 // CO_HAS_BEEN_BOUND
)

// sentinelCodes are the numbers of errors that are known by errors.Is, in the order in which they
// are looked for.
var sentinelCodes = []struct {
	err  error
	code int
}{
	{runtime.ErrChannelTimeout, codeChannelTimeout}, // before ErrTimeout, which it also is
	{runtime.ErrChannelClosed, codeChannelClosed},
	{ErrBusy, codeBound},
	{ErrPlaintextPending, codeWrongOperation},
	{ErrQueueFull, codeOutputOverflow},
	{ErrSSLActive, int(syscall.EISCONN)},
	{ErrWouldBlock, int(syscall.EAGAIN)},
	{ErrNotConnected, codeNoConnection},
	{ErrTruncated, codeSSLReset},
	{ErrPathTooLong, codeNameTooLong},
	{runtime.ErrOnLoop, codeOutsideCoroutine},
	{runtime.ErrNoRuntime, codeOutsideCoroutine},
	{runtime.ErrTimeout, int(syscall.ETIMEDOUT)},
	{os.ErrDeadlineExceeded, int(syscall.ETIMEDOUT)},
	{context.DeadlineExceeded, int(syscall.ETIMEDOUT)},
	{context.Canceled, int(syscall.ECANCELED)},
	{net.ErrClosed, int(syscall.EBADF)},
}

// Code returns the error's number as ported code knows it: Swoole's error code, or an errno. It is
// 0 for nil, and -1 if err has none. An error with a method Code() int says its own. The page
// docs/codes.md has the table.
func Code(err error) int {
	if err == nil {
		return 0
	}
	for _, s := range sentinelCodes {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	if coded, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		return coded.Code()
	}
	if code := tlsCode(err); code != 0 {
		return code
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsTimeout {
			return codeLookupTimeout
		}
		return codeNotFound
	}
	if _, ok := errors.AsType[net.UnknownNetworkError](err); ok {
		return codeBadSocketType
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return int(errno)
	}
	return -1
}

// tlsCode returns the number of what has gone wrong with TLS, 0 if it isn't that.
func tlsCode(err error) int {
	if refusedCertificate(err) {
		return codeSSLVerify
	}
	record, alert, handshake := false, false, false
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		record = true
	}
	for rest := err; ; {
		op, ok := errors.AsType[*net.OpError](rest)
		if !ok {
			break
		}
		handshake = handshake || op.Op == "handshake"
		alert = alert || op.Op == "remote error" || op.Op == "local error" // of crypto/tls
		rest = op.Err
	}
	switch {
	case handshake && !errors.Is(err, syscall.ESOCKTNOSUPPORT):
		return codeSSLHandshake
	case record, alert:
		return codeSSLBadProtocol
	}
	return 0
}

// refusedCertificate reports whether err is that a peer's certificate was not accepted here.
func refusedCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// codedError is an error with a number, which it doesn't show.
type codedError struct {
	error
	code int
}

func (e *codedError) Code() int     { return e.code }
func (e *codedError) Unwrap() error { return e.error }

// addressError says that there is something wrong with an address.
func addressError(code int, why, address string) error {
	return &codedError{&net.AddrError{Err: why, Addr: address}, code}
}

// badClient gives the error of a server's handshake its number, unless it has one that says more.
func badClient(err error) error {
	for _, s := range sentinelCodes {
		if errors.Is(err, s.err) {
			return err
		}
	}
	return &codedError{err, codeSSLBadClient}
}
