package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Limits, of which some are Pusher's.
const (
	maxChannels = 100      // that a connection may be subscribed to
	maxEvent    = 10 << 10 // bytes of an event's data
	maxMember   = 2 << 10  // bytes of what is known of somebody in a presence channel
	maxRate     = 10       // client events that a connection may send in a second
	maxMessages = 100      // messages of any kind
	silence     = 120      // seconds after which a client asks whether the server is there
)

// Codes of the protocol: a client doesn't come back after those below 4100.
const (
	noApp              = 4001
	unsupportedVersion = 4007
	overQuota          = 4100 // come back later
	tooManyEvents      = 4301 // only said, the connection stays
)

// A broker is a server that speaks the Pusher Channels protocol, version 7. A channel is a room of
// the hub, which has the members of all such servers: this one is a node of it.
type broker struct {
	app      app
	open     bool // signs for everybody
	server   *websocket.Server
	hub      *cluster.Hub
	presence presence
}

// A subscriber is the value of a connection. Only callbacks of that connection use it.
type subscriber struct {
	id       cluster.ID
	channels []string
	users    map[string]string // who it is, by presence channels

	since            time.Time // begin of the second in which are counted:
	messages, events int
}

// A message goes in either direction. Its data is a string that holds JSON when it comes from the
// server, and any JSON when it comes from a client.
type message struct {
	Event   string          `json:"event"`
	Channel string          `json:"channel,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	UserID  string          `json:"user_id,omitempty"` // who has sent a client event
}

// newBroker makes a node. carrier is what connects it to the others; nil: there are none.
func newBroker(a app, open bool, carrier cluster.Broker) *broker {
	b := &broker{app: a, open: open}
	b.presence = presence{broker: b, channels: map[string]map[string]*user{}}
	b.hub = cluster.New(cluster.Config{
		Broker: carrier,
		// It is half of a socket ID, whose form is the protocol's.
		Node:       strconv.FormatUint(rand.Uint64(), 10),
		OnPresence: b.presence.told,
		MaxRooms:   maxChannels,
		MaxMeta:    maxMember,
	})
	b.server = websocket.NewServer(websocket.Config{
		OnHandshake: b.handshake,
		OnRequest:   b.api(),
		Options: websocket.Options{
			OnMessage:    b.receive,
			MaxMessage:   2 * maxEvent,
			MaxQueue:     512 << 10,
			PingInterval: silence * time.Second,
			Compression:  websocket.Compression{Enabled: true},
		},
		// The pages are other hosts'. What they may do is said by signatures, not by cookies.
		OriginPatterns: []string{"*"},
		MaxBody:        1 << 20,
		Server:         server.Config{MaxPerAddress: 1000},
	})
	return b
}

// socketID is a member's name in the protocol.
func socketID(id cluster.ID) string { return fmt.Sprintf("%s.%d", id.Node, id.Number) }

// bySocketID returns the member, of whatever node; ok is false for what is no socket ID.
func bySocketID(socketID string) (id cluster.ID, ok bool) {
	node, number, _ := strings.Cut(socketID, ".")
	_, wrongNode := strconv.ParseUint(node, 10, 64)
	n, wrong := strconv.ParseUint(number, 10, 64)
	return cluster.ID{Node: node, Number: n}, wrongNode == nil && wrong == nil
}

// roomOf returns the name of a channel's room, channelOf that of a room's channel. A room's name
// has dots only between other characters, a channel's anywhere; a channel's has no colon.
func roomOf(channel string) string { return strings.ReplaceAll(channel, ".", ":") }

func channelOf(room string) string { return strings.ReplaceAll(room, ":", ".") }

// handshake takes connections to /app/KEY. A browser can't see a refusal's status, so the protocol
// has the server accept, say what is wrong, and close.
func (b *broker) handshake(w http.ResponseWriter, r *http.Request) {
	key, ok := strings.CutPrefix(r.URL.Path, "/app/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	c := websocket.ConnOf(r)
	event.Defer(r.Context(), func(context.Context) {
		switch {
		case key != b.app.key:
			refuse(c, noApp, "There is no app with this key")
		case r.URL.Query().Get("protocol") != "7":
			refuse(c, unsupportedVersion, "The protocol's version has to be 7")
		default:
			id, ok := b.hub.ID(c)
			if !ok {
				refuse(c, overQuota, "The server ends")
				return
			}
			c.SetValue(&subscriber{id: id, users: map[string]string{}})
			tell(c, "pusher:connection_established", "", map[string]any{
				"socket_id": socketID(id), "activity_timeout": silence,
			})
		}
	})
}

// receive gets what clients send.
func (b *broker) receive(ctx context.Context, c *websocket.Conn, got websocket.Message) {
	s, ok := c.Value().(*subscriber)
	var m message
	switch {
	case !ok: // it is being refused
		return
	case got.Opcode != websocket.Text || json.Unmarshal(got.Data, &m) != nil:
		c.Close(websocket.StatusUnsupportedData, "messages are JSON")
		return
	case !s.counts(&s.messages, maxMessages):
		refuse(c, overQuota, "Too many messages")
		return
	}
	switch {
	case m.Event == "pusher:ping":
		tell(c, "pusher:pong", "", map[string]any{})
	case m.Event == "pusher:subscribe":
		b.subscribe(c, s, m.Data)
	case m.Event == "pusher:unsubscribe":
		var from struct{ Channel string }
		json.Unmarshal(m.Data, &from)
		b.unsubscribe(c, s, from.Channel)
	case strings.HasPrefix(m.Event, "client-"):
		b.clientEvent(ctx, c, s, m)
	}
}

// counts counts something, and reports whether there is no more than most of it in this second.
func (s *subscriber) counts(n *int, most int) bool {
	if now := time.Now(); now.Sub(s.since) > time.Second {
		s.since, s.messages, s.events = now, 0, 0
	}
	*n++
	return *n <= most
}

// channelName is what channels may be called.
var channelName = regexp.MustCompile(`^[A-Za-z0-9_\-=@,.;]{1,164}$`)

func isPresence(channel string) bool { return strings.HasPrefix(channel, "presence-") }

// isGuarded reports whether a channel wants a signature.
func isGuarded(channel string) bool {
	return strings.HasPrefix(channel, "private-") || isPresence(channel)
}

func (b *broker) subscribe(c *websocket.Conn, s *subscriber, data []byte) {
	var to struct {
		Channel, Auth string
		ChannelData   string `json:"channel_data"`
	}
	json.Unmarshal(data, &to) // what isn't there is refused
	failed := func(status int, kind, text string) {
		tell(c, "pusher:subscription_error", to.Channel, map[string]any{
			"type": kind, "error": text, "status": status,
		})
	}
	allowed := func() bool {
		return !isGuarded(to.Channel) ||
			b.app.granted(to.Auth, socketID(s.id), to.Channel, to.ChannelData)
	}
	switch {
	case !channelName.MatchString(to.Channel):
		complain(c, "Invalid name of a channel")
		return
	case slices.Contains(s.channels, to.Channel):
		return
	case len(s.channels) == maxChannels:
		failed(http.StatusTooManyRequests, "LimitReached", "too many channels")
		return
	case !allowed():
		failed(http.StatusUnauthorized, "AuthError", "the signature is wrong")
		return
	}
	var who member
	var meta []byte
	if isPresence(to.Channel) {
		var err error
		if who, err = parseMember(to.ChannelData); err != nil {
			failed(http.StatusBadRequest, "AuthError", "channel_data must have a user_id")
			return
		}
		meta, _ = json.Marshal(who)
	}
	switch err := b.hub.Join(c, roomOf(to.Channel), meta); {
	case errors.Is(err, cluster.ErrTooBig):
		failed(http.StatusRequestEntityTooLarge, "AuthError", "channel_data is too large")
		return
	case err != nil: // one of both ends
		return
	}
	s.channels = append(s.channels, to.Channel)
	if isPresence(to.Channel) {
		s.users[to.Channel] = who.ID // the presence tells it who is there
		return
	}
	tell(c, "pusher_internal:subscription_succeeded", to.Channel, map[string]any{})
}

func (b *broker) unsubscribe(c *websocket.Conn, s *subscriber, channel string) {
	at := slices.Index(s.channels, channel)
	if at < 0 {
		return
	}
	s.channels = slices.Delete(s.channels, at, at+1)
	delete(s.users, channel)
	b.hub.Leave(c, roomOf(channel))
}

// clientEvent passes an event on to the others of its channel, which has to be one of those that
// want a signature.
func (b *broker) clientEvent(
	ctx context.Context, c *websocket.Conn, s *subscriber, m message,
) {
	switch {
	case !isGuarded(m.Channel) || !slices.Contains(s.channels, m.Channel):
		complain(c, "Client events are for private and presence channels")
		return
	case len(m.Data) > maxEvent:
		complain(c, "The event is too large")
		return
	case !s.counts(&s.events, maxRate):
		tell(c, "pusher:error", "", map[string]any{
			"code": tooManyEvents, "message": "Too many client events",
		})
		return
	}
	m.UserID = s.users[m.Channel]
	if b.hub.Broadcast(ctx, roomOf(m.Channel), text(encode(m)), s.id) != nil {
		complain(c, "The event was not sent: try again later")
	}
}

// complain says what is wrong, and nothing more comes of it.
func complain(c *websocket.Conn, text string) {
	tell(c, "pusher:error", "", map[string]any{"message": text})
}

// refuse says what is wrong, and closes.
func refuse(c *websocket.Conn, code int, text string) {
	tell(c, "pusher:error", "", map[string]any{"code": code, "message": text})
	c.Close(code, text)
}

// tell sends an event of the server. What becomes of it makes no difference: who doesn't take it is
// sent away.
func tell(c *websocket.Conn, event, channel string, data map[string]any) {
	c.Push(serverEvent(event, channel, data), websocket.Text)
}

func text(data []byte) websocket.Message {
	return websocket.Message{Opcode: websocket.Text, Data: data}
}

func serverEvent(event, channel string, data any) []byte {
	inner, _ := json.Marshal(data)
	return stringEvent(event, channel, string(inner))
}

// stringEvent is an event whose data is a string.
func stringEvent(event, channel, data string) []byte {
	quoted, _ := json.Marshal(data)
	return encode(message{Event: event, Channel: channel, Data: quoted})
}

func encode(m message) []byte {
	data, _ := json.Marshal(m) // nothing in it can fail
	return data
}
