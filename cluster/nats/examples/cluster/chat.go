package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/websocket"
)

// Limits of what people may do.
const (
	maxName   = 20   // characters of somebody's name, and of a room's
	maxRooms  = 10   // that a connection may be in
	maxText   = 2000 // bytes of what somebody says
	maxListed = 200  // members of a room who are shown
)

// A message is what goes over the connections, in both directions, as JSON. People send "join",
// "leave", "say" and "tell"; the server "welcome", "joined", "here", "said", "told", "gap" and
// "error".
type message struct {
	Type string `json:"type"`
	Room string `json:"room,omitempty"`
	Name string `json:"name,omitempty"` // of who has said it
	Node string `json:"node,omitempty"` // where that one is
	User string `json:"user,omitempty"` // whom alone it is for
	Text string `json:"text,omitempty"`
	Time int64  `json:"time,omitempty"` // milliseconds since 1970

	// At is where a message stands in the history. Whoever joins sends that of the last one it has.
	At   *cluster.Position `json:"at,omitempty"`
	Lost bool              `json:"lost,omitempty"` // of what came behind it, not all is there any more

	// Who is in a room: all, up to maxListed, and the change.
	Count   int      `json:"count,omitempty"`
	Members []person `json:"members,omitempty"`
	Came    []person `json:"came,omitempty"`
	Went    []person `json:"went,omitempty"`
}

type person struct {
	Name string `json:"name"`
	Node string `json:"node"`
}

func (m message) text() websocket.Message {
	data, _ := json.Marshal(m) // nothing in it can fail
	return websocket.Message{Opcode: websocket.Text, Data: data}
}

// encode adds to what is broadcast what only the hub knows.
func encode(p cluster.Publication) websocket.Message {
	var m message
	if json.Unmarshal(p.Message.Data, &m) != nil {
		return p.Message // another program's
	}
	m.Room, m.Node = p.Room, p.Node
	if p.At.Epoch != "" {
		m.At = &p.At
	}
	return m.text()
}

// serve has a connection, in a coroutine.
func (n *node) serve(ctx context.Context, c *websocket.Conn) {
	name := c.Value().(string)
	if n.hub.Bind(c, name) != nil {
		c.Close(websocket.StatusGoingAway, "")
		return
	}
	tell(c, message{Type: "welcome", Name: name, Node: n.hub.Node()})
	for {
		got, err := c.Recv(ctx)
		if err != nil {
			return
		}
		var m message
		if got.Opcode != websocket.Text || json.Unmarshal(got.Data, &m) != nil {
			c.Close(websocket.StatusUnsupportedData, "messages are JSON")
			return
		}
		n.receive(ctx, c, name, m)
	}
}

// receive gets what somebody sends.
func (n *node) receive(ctx context.Context, c *websocket.Conn, name string, m message) {
	inside := slices.Contains(n.hub.Rooms(c), m.Room)
	sayable := strings.TrimSpace(m.Text) != "" && len(m.Text) <= maxText
	now := time.Now().UnixMilli()
	var err error
	switch {
	case m.Type == "join" && !inside:
		n.join(ctx, c, m)
	case m.Type == "leave":
		n.hub.Leave(c, m.Room)
	case m.Type == "say" && inside && sayable:
		said := message{Type: "said", Name: name, Text: m.Text, Time: now}
		err = n.hub.Broadcast(ctx, m.Room, said.text()) // to the sender, too: it has arrived
	case m.Type == "tell" && sayable:
		told := message{Type: "told", Name: name, User: m.User, Text: m.Text, Time: now}.text()
		err = n.hub.ToUser(ctx, m.User, told)
		if err == nil && m.User != name {
			err = n.hub.ToUser(ctx, name, told)
		}
	default:
		complain(c, m.Room, "That can't be done")
	}
	if err != nil {
		complain(c, m.Room, "That was not sent: "+err.Error())
	}
}

// join has a connection join a room, and sends it first what it has missed since it was there.
func (n *node) join(ctx context.Context, c *websocket.Conn, m message) {
	var since cluster.Position
	if m.At != nil {
		since = *m.At
	}
	if len([]rune(m.Room)) > maxName {
		complain(c, m.Room, "A room's name has 20 characters at most")
		return
	}
	at, err := n.hub.JoinSince(ctx, c, m.Room, nil, since)
	lost := errors.Is(err, cluster.ErrUnrecoverable) // but it has joined
	if err != nil && !lost {
		complain(c, m.Room, err.Error())
		return
	}
	joined := message{Type: "joined", Room: m.Room, Lost: lost}
	if at.Epoch != "" {
		joined.At = &at
	}
	tell(c, joined)
}

// presence tells the members on this node who is in a room. It is called once at a time, so each of
// these lists is newer than the one before it; whoever has just joined gets its first.
func (n *node) presence(ctx context.Context, room string, joined, left []cluster.Member) {
	members, err := n.hub.Members(ctx, room)
	if err != nil {
		return // it ends
	}
	n.hub.BroadcastHere(ctx, room, message{
		Type: "here", Room: room, Count: n.hub.Count(room),
		Members: people(members), Came: people(joined), Went: people(left),
	}.text())
}

func people(members []cluster.Member) []person {
	all := make([]person, 0, min(len(members), maxListed))
	for _, m := range members[:min(len(members), maxListed)] {
		all = append(all, person{m.User, m.Node})
	}
	slices.SortFunc(all, func(a, b person) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// gap tells those on this node who may have missed something.
func (n *node) gap(ctx context.Context, gap cluster.Gap) {
	m := message{Type: "gap", Room: gap.Room, User: gap.User, Text: gap.Err.Error()}
	if gap.Room != "" {
		n.hub.BroadcastHere(ctx, gap.Room, m.text())
	} else {
		n.hub.ToUserHere(ctx, gap.User, m.text())
	}
}

// tell tells one. What becomes of it makes no difference: who doesn't take it is sent away.
func tell(c *websocket.Conn, m message) {
	text := m.text()
	c.Push(text.Data, text.Opcode)
}

func complain(c *websocket.Conn, room, text string) {
	tell(c, message{Type: "error", Room: room, Text: text})
}
