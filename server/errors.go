package server

import (
	"errors"
	"os"

	"github.com/whorl-go/whorl/internal/callback"
)

// Why connections end, for OnClose, and what calls return.
var (
	// ErrIdle ends a connection on which no packet has come for Port.IdleTimeout.
	ErrIdle = errors.New("server: idle for too long")

	// ErrLifetime ends a connection that is older than Port.Lifetime.
	ErrLifetime = errors.New("server: the connection's lifetime is over")

	// ErrStalled ends a connection whose peer has taken nothing of what is queued for
	// Port.WriteTimeout.
	ErrStalled = callback.ErrStalled

	// ErrOverflow ends a connection for which more was sent from elsewhere than Port.MaxQueue
	// allows.
	ErrOverflow = callback.ErrOverflow

	// ErrShutdown ends what a Shutdown or Close finds. It is what Recv returns to a handler between
	// two packets when the server shuts down.
	ErrShutdown = errors.New("server: shutting down")

	// ErrMaxConnections is why a connection is refused: there are as many as Config.MaxConnections
	// allows.
	ErrMaxConnections = errors.New("server: too many connections")

	// ErrMaxPerAddress is why a connection is refused: there are as many as Config.MaxPerAddress
	// allows.
	ErrMaxPerAddress = errors.New("server: too many connections from this address")

	// ErrPlaintext is why a connection is refused: its client doesn't speak TLS on a port that
	// does.
	ErrPlaintext = errors.New("server: the client doesn't speak TLS")

	// ErrSilent is why a connection is refused: its client has said too little in
	// Port.HandshakeTimeout, or others needed its place in the meantime. It is also
	// os.ErrDeadlineExceeded.
	ErrSilent error = silentError{}

	// ErrLingering is why the delivery of what a closed connection had sent was cut: there were
	// more of them than Config.MaxLingering allows, or they had more than MaxLingeringBytes.
	ErrLingering = errors.New("server: too many closed connections still deliver")

	// ErrNoConnection is returned for an ID whose connection has ended, or never was.
	ErrNoConnection = errors.New("server: no such connection")
)

type silentError struct{}

func (silentError) Error() string        { return "server: the client has said too little in time" }
func (silentError) Timeout() bool        { return true }
func (silentError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
