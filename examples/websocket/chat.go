package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Limits of what people may do.
const (
	maxName  = 20   // characters of somebody's name, and of a room's
	maxRooms = 10   // that a connection may be in
	maxText  = 2000 // bytes of what somebody says
	maxRate  = 20   // messages that a connection may send in a second
	maxShown = 100  // members of a room of whom somebody who comes is told
)

// A chat is a server. Its methods are the callbacks of the connections, which run on several loops
// at once.
type chat struct {
	server *websocket.Server
	passes passes
	names  sync.Map // of people, by their connections' IDs
}

// A member is the value of a connection. Only callbacks of that connection use it, which run one at
// a time: so it needs no lock.
type member struct {
	name  string
	rooms []string

	since time.Time // begin of the second in which messages are counted
	count int
}

// A message is what goes over the connections, in both directions, as JSON. People send "join",
// "leave" and "say"; the server "welcome", "members", "joined", "left", "said" and "error".
type message struct {
	Type    string   `json:"type"`
	Room    string   `json:"room,omitempty"`
	ID      uint64   `json:"id,omitempty"` // the connection's of whom it is about
	Name    string   `json:"name,omitempty"`
	Text    string   `json:"text,omitempty"`
	Time    int64    `json:"time,omitempty"` // milliseconds since 1970
	Members []person `json:"members,omitempty"`
}

type person struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}

func (m message) encode() []byte {
	data, _ := json.Marshal(m) // nothing in it can fail
	return data
}

// newChat makes the server. secure is the configuration for those of its addresses that have TLS.
func newChat(secure *tls.Config) *chat {
	ch := &chat{passes: newPasses()}
	ch.server = websocket.NewServer(websocket.Config{
		OnHandshake: ch.handshake,
		OnRequest:   ch.pages(),
		Options: websocket.Options{
			OnMessage:    ch.receive,
			OnClose:      ch.gone,
			Subprotocols: []string{"chat"},
			Compression:  websocket.Compression{Enabled: true},
			MaxMessage:   4 << 10,
			MaxQueue:     256 << 10, // who reads more slowly than the others talk is sent away
			PingInterval: 20 * time.Second,
			PongTimeout:  10 * time.Second,
		},
		Server: server.Config{Port: server.Port{TLS: secure}, MaxPerAddress: 100},
	})
	return ch
}

// handshake lets those in who have a pass. Its answer makes the connection a WebSocket; the first
// word is deferred, so that it follows that.
func (ch *chat) handshake(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/ws" {
		http.NotFound(w, r)
		return
	}
	name, ok := ch.passes.check(r.URL.Query().Get("token"), time.Now())
	if !ok {
		http.Error(w, "no valid token: POST /token gives one", http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	c := websocket.ConnOf(r)
	event.Defer(r.Context(), func(context.Context) {
		c.SetValue(&member{name: name})
		ch.names.Store(c.ID(), name)
		tell(c, message{Type: "welcome", ID: uint64(c.ID()), Name: name})
	})
}

// receive gets what somebody sends.
func (ch *chat) receive(_ context.Context, c *websocket.Conn, m websocket.Message) {
	who := c.Value().(*member)
	if now := time.Now(); now.Sub(who.since) > time.Second {
		who.since, who.count = now, 0
	}
	if who.count++; who.count > maxRate {
		c.Close(websocket.StatusPolicyViolation, "too many messages")
		return
	}
	var said message
	if m.Opcode != websocket.Text || json.Unmarshal(m.Data, &said) != nil {
		c.Close(websocket.StatusUnsupportedData, "messages are JSON")
		return
	}
	inside := slices.Contains(who.rooms, said.Room)
	switch {
	case said.Type == "join":
		ch.join(c, who, said.Room, inside)
	case said.Type == "leave" && inside:
		ch.server.Leave(c, said.Room)
		at := slices.Index(who.rooms, said.Room)
		who.rooms = slices.Delete(who.rooms, at, at+1)
		ch.announce(c, message{Type: "left", Room: said.Room, Name: who.name})
	case said.Type == "say" && inside && sayable(said.Text):
		said.Type, said.ID, said.Name = "said", uint64(c.ID()), who.name
		said.Time = time.Now().UnixMilli()
		// To the sender, too: it has arrived.
		ch.server.Broadcast(said.Room, said.encode(), websocket.Text)
	default:
		complain(c, said.Room, "That can't be done")
	}
}

func (ch *chat) join(c *websocket.Conn, who *member, room string, inside bool) {
	switch {
	case inside:
		return
	case !isName(room):
		complain(c, room, "A room's name is letters, digits, - and _, 20 at most")
		return
	case len(who.rooms) == maxRooms:
		complain(c, room, "You are in too many rooms")
		return
	}
	// First it is in the room, then it looks who else is, and then it is announced. So, of two who
	// come at the same time, on different loops, each sees the other, or is told of it, or both.
	if ch.server.Join(c, room) != nil {
		return // it ends
	}
	who.rooms = append(who.rooms, room)
	found := message{Type: "members", Room: room}
	for _, other := range ch.server.Members(room) {
		if name, ok := ch.names.Load(other.ID()); ok && len(found.Members) < maxShown {
			found.Members = append(found.Members, person{uint64(other.ID()), name.(string)})
		}
	}
	tell(c, found)
	ch.announce(c, message{Type: "joined", Room: room, Name: who.name})
}

// gone is told of the end of a connection, which has left its rooms by then.
func (ch *chat) gone(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
	who, ok := c.Value().(*member)
	if !ok {
		return // before its first word
	}
	ch.names.Delete(c.ID())
	if errors.Is(c.Err(), server.ErrShutdown) {
		return // everybody goes
	}
	for _, room := range who.rooms {
		ch.announce(c, message{Type: "left", Room: room, Name: who.name})
	}
}

// announce tells a room of somebody, but not that one.
func (ch *chat) announce(c *websocket.Conn, m message) {
	m.ID = uint64(c.ID())
	ch.server.Broadcast(m.Room, m.encode(), websocket.Text, c)
}

// tell tells one. What becomes of it makes no difference: who doesn't take it is sent away.
func tell(c *websocket.Conn, m message) { c.Push(m.encode(), websocket.Text) }

func complain(c *websocket.Conn, room, text string) {
	tell(c, message{Type: "error", Room: room, Text: text})
}

// isName reports whether somebody, or a room, can be called so.
func isName(s string) bool {
	other := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
	}
	return s != "" && utf8.RuneCountInString(s) <= maxName && !strings.ContainsFunc(s, other)
}

func sayable(text string) bool { return strings.TrimSpace(text) != "" && len(text) <= maxText }
