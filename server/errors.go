package server

import (
	"errors"

	"github.com/whorl-go/whorl/internal/callback"
)

// Why connections end, for OnClose, and what calls return.
var (
	// ErrIdle ends a connection on which no packet has come for Port.IdleTimeout.
	ErrIdle = errors.New("server: idle for too long")

	// ErrLifetime ends a connection that is older than Port.Lifetime.
	ErrLifetime = errors.New("server: the connection's lifetime is over")

	// ErrStalled ends a connection whose peer has taken nothing of what is queued for Port.WriteTimeout.
	ErrStalled = callback.ErrStalled

	// ErrOverflow ends a connection for which more was sent from elsewhere than Port.MaxQueue allows.
	ErrOverflow = callback.ErrOverflow

	// ErrShutdown ends what a Shutdown or Close finds. It is what Recv returns to a handler between two packets when the server shuts down.
	ErrShutdown = errors.New("server: shutting down")

	// ErrTooMany is why a connection is refused: there are as many as Config.MaxPerAddress allows.
	ErrTooMany = errors.New("server: too many connections from this address")

	// ErrNoConnection is returned for an ID whose connection has ended, or never was.
	ErrNoConnection = errors.New("server: no such connection")

	// ErrNotServing is returned by what needs a server that has a runtime: Listen or Serve tell it.
	ErrNotServing = errors.New("server: not serving")
)

// errHandshakeTimeout is why a connection that never came to stand was closed.
var errHandshakeTimeout = errors.New("server: no handshake in time")
