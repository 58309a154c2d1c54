package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Limits, of which some are Pusher's.
const (
	maxChannels = 100      // that a connection may be subscribed to
	maxEvent    = 10 << 10 // bytes of an event's data
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

// A broker is a server that speaks the Pusher Channels protocol, version 7. A channel is a room.
type broker struct {
	app      app
	open     bool // signs for everybody
	server   *websocket.Server
	run      string // the first half of all socket IDs
	presence presence
}

// A subscriber is the value of a connection. Only callbacks of that connection use it.
type subscriber struct {
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

func newBroker(a app, open bool) *broker {
	b := &broker{app: a, open: open, run: strconv.FormatInt(time.Now().UnixMicro(), 10)}
	b.server = websocket.NewServer(websocket.Config{
		OnHandshake: b.handshake,
		OnRequest:   b.api(),
		Options: websocket.Options{
			OnMessage:    b.receive,
			OnClose:      b.gone,
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
	b.presence.broker = b
	return b
}

// socketID is a connection's name in the protocol.
func (b *broker) socketID(c *websocket.Conn) string { return fmt.Sprintf("%s.%d", b.run, c.ID()) }

// bySocketID returns a connection, nil if it isn't one of this server's.
func (b *broker) bySocketID(socketID string) *websocket.Conn {
	run, number, _ := strings.Cut(socketID, ".")
	id, err := strconv.ParseUint(number, 10, 64)
	if run != b.run || err != nil {
		return nil
	}
	return b.server.Conn(server.ID(id))
}

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
			c.SetValue(&subscriber{users: map[string]string{}})
			tell(c, "pusher:connection_established", "", map[string]any{
				"socket_id": b.socketID(c), "activity_timeout": silence,
			})
		}
	})
}

// receive gets what clients send.
func (b *broker) receive(_ context.Context, c *websocket.Conn, got websocket.Message) {
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
		b.clientEvent(c, s, m)
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
			b.app.granted(to.Auth, b.socketID(c), to.Channel, to.ChannelData)
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
	if !isPresence(to.Channel) {
		s.channels = append(s.channels, to.Channel)
		b.server.Join(c, to.Channel)
		tell(c, "pusher_internal:subscription_succeeded", to.Channel, map[string]any{})
		return
	}
	who, err := parseMember(to.ChannelData)
	if err != nil {
		failed(http.StatusBadRequest, "AuthError", "channel_data must have a user_id")
		return
	}
	s.channels = append(s.channels, to.Channel)
	s.users[to.Channel] = who.id
	b.presence.enter(c, to.Channel, who)
}

func (b *broker) unsubscribe(c *websocket.Conn, s *subscriber, channel string) {
	at := slices.Index(s.channels, channel)
	if at < 0 {
		return
	}
	s.channels = slices.Delete(s.channels, at, at+1)
	b.server.Leave(c, channel)
	if user, ok := s.users[channel]; ok {
		delete(s.users, channel)
		b.presence.leave(channel, user)
	}
}

// gone is told of the end of a connection, which has left its rooms by then.
func (b *broker) gone(_ context.Context, c *websocket.Conn, _ int, _ string, _ bool) {
	if s, ok := c.Value().(*subscriber); ok {
		for channel, user := range s.users {
			b.presence.leave(channel, user)
		}
	}
}

// clientEvent passes an event on to the others of its channel, which has to be one of those that
// want a signature.
func (b *broker) clientEvent(c *websocket.Conn, s *subscriber, m message) {
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
	b.server.Broadcast(m.Channel, encode(m), websocket.Text, c)
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
