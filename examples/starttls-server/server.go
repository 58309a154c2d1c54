package main

import (
	"context"
	"errors"
	"os"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/server"
)

// maxLine is the longest command with its CRLF, RFC 5321, section 4.5.3.1.4.
const maxLine = 512

// handle serves a connection.
func handle(ctx context.Context, c *server.Conn) {
	s := new(session)
	if !say(ctx, c, "220 localhost ESMTP Whorl") {
		return
	}
	for {
		line, err := c.Recv(ctx)
		if err != nil {
			if last := farewell(err); last != "" {
				say(ctx, c, last)
			}
			return
		}
		reply, then := s.command(string(line[:len(line)-len("\r\n")]))
		if !say(ctx, c, reply) || then == hangUp {
			return
		}
		if then == startTLS {
			// If there is something behind STARTTLS in plaintext, EnableSSL refuses: over TLS it
			// would pass for the client's words (CVE-2011-0411). After that, and after a handshake
			// that fails, the connection is closed. There is no way back to plaintext.
			if err := c.EnableSSL(ctx); err != nil {
				return
			}
			s = &session{secure: true}
		}
	}
}

// say sends a reply, and reports whether the connection still stands.
func say(ctx context.Context, c *server.Conn, reply string) bool {
	_, err := c.Send(ctx, []byte(reply+"\r\n"))
	return err == nil
}

// farewell is the last reply after an error of Recv, empty if nobody would hear it.
func farewell(err error) string {
	switch {
	case errors.Is(err, server.ErrShutdown):
		return "421 4.3.2 The server shuts down"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "421 4.4.2 Nothing was said for too long"
	case errors.Is(err, packet.ErrPacketTooLarge):
		return "500 5.5.2 The line is too long"
	}
	return ""
}
