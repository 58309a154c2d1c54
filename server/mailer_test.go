//go:build linux

package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// mailer is a line server in the manner of SMTP, in both styles, that upgrades to TLS. It notes the
// commands that it executes.
type mailer struct {
	requireTLS bool
	before     func(c *server.Conn) // before STARTTLS is answered

	mu       sync.Mutex
	executed []string
	upgrades []error
}

// session is what a mailer knows of a client.
type session struct{ name, from string }

func (m *mailer) execute(c *server.Conn, s *session, line string) (answer string) {
	m.mu.Lock()
	m.executed = append(m.executed, strings.TrimSpace(line))
	m.mu.Unlock()
	command, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
	_, secure := c.ConnectionState()
	switch {
	case command == "EHLO":
		s.name = argument
	case command == "STARTTLS":
		if m.before != nil {
			m.before(c)
		}
		return "220 go\r\n"
	case command == "AUTH" && m.requireTLS && !secure:
		return "538 5.7.11 encryption required\r\n"
	case command == "MAIL" && s.name == "", command == "RCPT" && s.from == "":
		return "503 bad sequence\r\n"
	case command == "MAIL":
		s.from = argument
	case command == "RCPT", command == "RSET", command == "AUTH", command == "NOOP":
	default:
		return "500 what?\r\n"
	}
	return "250 ok\r\n"
}

// upgraded notes how an upgrade has ended, and forgets what was learnt in the clear. What it
// returns is answered.
func (m *mailer) upgraded(s *session, err error) (answer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.upgrades = append(m.upgrades, err)
	if err == nil {
		*s = session{}
	}
	if errors.Is(err, socket.ErrSSLActive) {
		return "503 TLS is active\r\n"
	}
	return ""
}

func (m *mailer) handle(ctx context.Context, c *server.Conn) {
	s := new(session)
	for {
		pkt, err := c.Recv(ctx)
		if err != nil {
			return
		}
		line := string(pkt)
		_, secure := c.ConnectionState()
		answer := m.execute(c, s, line)
		upgrade := strings.HasPrefix(answer, "220")
		if !upgrade || !secure {
			c.Send(ctx, []byte(answer))
		}
		if upgrade {
			c.Send(ctx, []byte(m.upgraded(s, c.EnableSSL(ctx))))
		}
	}
}

func (m *mailer) receive(ctx context.Context, c *server.Conn, pkt []byte) {
	if c.Value() == nil {
		c.SetValue(new(session))
	}
	s := c.Value().(*session)
	_, secure := c.ConnectionState()
	answer := m.execute(c, s, string(pkt))
	upgrade := strings.HasPrefix(answer, "220")
	if !upgrade || !secure {
		c.Send(ctx, []byte(answer))
	}
	if upgrade {
		c.EnableSSLAsync(ctx, func(ctx context.Context, c *server.Conn, err error) {
			c.Send(ctx, []byte(m.upgraded(s, err)))
		})
	}
}

func (m *mailer) has(command string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.executed, command)
}

// outcomes returns how the upgrades have ended, when there have been n.
func (m *mailer) outcomes(t *testing.T, n int) []error {
	t.Helper()
	until(t, "the upgrades have ended", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.upgrades) >= n
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.upgrades)
}

// eachMailer runs a test with a mailer in each style.
func eachMailer(
	t *testing.T, config server.Port,
	test func(t *testing.T, m *mailer, h *house, l *server.Listener),
	settings ...func(m *mailer),
) {
	for _, style := range []string{"handler", "callbacks"} {
		t.Run(style, func(t *testing.T) {
			m, port := new(mailer), config
			for _, set := range settings {
				set(m)
			}
			if port.EOF == "" {
				port.EOF = "\r\n"
			}
			port.TLS = serverTLS()
			if style == "handler" {
				port.Handle = m.handle
			} else {
				port.OnReceive = m.receive
			}
			h, l := start(t, "tcp", server.Config{Port: port})
			test(t, m, h, l)
		})
	}
}
