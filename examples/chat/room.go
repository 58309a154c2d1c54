package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/whorl-go/whorl/server"
)

// A room is where all who are connected hear each other. Its methods are the callbacks of their
// connections, which run on several loops at once.
type room struct {
	mu      sync.Mutex
	members map[string]server.ID // by their names; guarded by mu
	guests  int                  // so far; guarded by mu
}

// A member is the value of a connection. Only callbacks of that connection use it, which run one at
// a time: so it needs no lock, and so others, on other loops, have to go by the room's list.
type member struct {
	name string
	slow bool
}

const help = "/nick NAME, /who, /to NAME TEXT, /quit"

// port returns how the room is served: no coroutine, and while somebody is silent no buffer either.
func (r *room) port() server.Port {
	return server.Port{
		EOF:       "\n", // a packet is a line
		MaxPacket: 1024,

		OnConnect:    r.enter,
		OnReceive:    r.receive,
		OnBufferFull: r.drop,
		OnClose:      r.leave,

		// What is kept for somebody who reads slowly: small, as there may be many.
		HighWater:  64 << 10,
		MaxQueue:   128 << 10,
		SendBuffer: 32 << 10,
	}
}

func (r *room) enter(ctx context.Context, c *server.Conn) {
	m := new(member)
	c.SetValue(m)
	r.mu.Lock()
	// Somebody may have taken the name of a guest to come.
	for m.name == "" || r.members[m.name] != 0 {
		r.guests++
		m.name = fmt.Sprintf("guest%d", r.guests)
	}
	r.members[m.name] = c.ID()
	r.mu.Unlock()
	tell(ctx, c, "* Welcome, %s. %s", m.name, help)
	toOthers(c, "* %s has come", m.name)
}

func (r *room) receive(ctx context.Context, c *server.Conn, line []byte) {
	text := strings.TrimSpace(string(line))
	// It goes to others' terminals.
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		tell(ctx, c, "! That is no text")
		return
	}
	command, rest, _ := strings.Cut(text, " ")
	switch m := c.Value().(*member); {
	case text == "":
	case command == "/nick":
		r.rename(ctx, c, m, rest)
	case command == "/who":
		r.mu.Lock()
		names := slices.Sorted(maps.Keys(r.members))
		r.mu.Unlock()
		tell(ctx, c, "* Here are %s", strings.Join(names, ", "))
	case command == "/to":
		r.whisper(ctx, c, m, rest)
	case command == "/quit":
		c.Close()
	case strings.HasPrefix(command, "/"):
		tell(ctx, c, "! %s", help)
	default:
		toOthers(c, "%s: %s", m.name, text)
	}
}

func (r *room) rename(ctx context.Context, c *server.Conn, m *member, name string) {
	isOther := func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	if name == "" || len(name) > 20 || strings.ContainsFunc(name, isOther) {
		tell(ctx, c, "! A name is letters and digits, not more than 20")
		return
	}
	r.mu.Lock()
	_, taken := r.members[name]
	if !taken {
		delete(r.members, m.name)
		r.members[name] = c.ID()
	}
	r.mu.Unlock()
	if taken {
		tell(ctx, c, "! Somebody is %s already", name)
		return
	}
	tell(ctx, c, "* You are %s now", name)
	toOthers(c, "* %s is %s now", m.name, name)
	m.name = name
}

func (r *room) whisper(ctx context.Context, c *server.Conn, m *member, rest string) {
	name, text, _ := strings.Cut(rest, " ")
	r.mu.Lock()
	id := r.members[name]
	r.mu.Unlock()
	if err := c.Server().Send(id, []byte(m.name+", to you: "+text+"\n")); err != nil {
		tell(ctx, c, "! There is no %s", name)
	}
}

// drop ends the connection of somebody who reads too slowly. It can't be slowed down instead: the
// others are the ones who talk.
func (r *room) drop(_ context.Context, c *server.Conn) {
	c.Value().(*member).slow = true
	c.Abort()
}

func (r *room) leave(_ context.Context, c *server.Conn, reason error) {
	m := c.Value().(*member)
	r.mu.Lock()
	delete(r.members, m.name)
	r.mu.Unlock()
	switch {
	case errors.Is(reason, server.ErrShutdown): // everybody leaves
	case m.slow:
		toOthers(c, "* %s was dropped, for reading too slowly", m.name)
	default:
		toOthers(c, "* %s has gone", m.name)
	}
}

// tell sends a line to one. Whether it can be sent makes no difference: who doesn't take it is
// dropped.
func tell(ctx context.Context, c *server.Conn, format string, values ...any) {
	c.Send(ctx, fmt.Appendf(nil, format+"\n", values...))
}

// toOthers sends a line to all but one.
func toOthers(c *server.Conn, format string, values ...any) {
	c.Server().
		Broadcast(fmt.Appendf(nil, format+"\n", values...), func(other *server.Conn) bool { return other != c })
}
