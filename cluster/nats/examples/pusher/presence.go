package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/websocket"
)

// A presence knows who is in the presence channels. Somebody may be there with several connections,
// on several loops: the first one that comes is announced, and so is the last one's going.
//
// What happens to channels is done on one goroutine, in order: so everybody hears of comings and
// goings in the same order. It lives only while there is something to do.
type presence struct {
	broker *broker

	mu      sync.Mutex
	queue   []func() // guarded by mu
	running bool     // guarded by mu

	shown    sync.RWMutex                // of what the goroutine changes
	channels map[string]map[string]*user // by channel and user; guarded by shown
}

// A user is in a channel.
type user struct {
	info        json.RawMessage
	connections int
}

// A member is what channel_data says of somebody.
type member struct {
	id   string
	info json.RawMessage
}

func parseMember(data string) (member, error) {
	var parsed struct {
		UserID any             `json:"user_id"` // a string, or a number
		Info   json.RawMessage `json:"user_info"`
	}
	if err := json.Unmarshal([]byte(data), &parsed); err != nil {
		return member{}, err
	}
	switch id := parsed.UserID.(type) {
	case string:
		if id != "" {
			return member{id, parsed.Info}, nil
		}
	case float64:
		number, _ := json.Marshal(id)
		return member{string(number), parsed.Info}, nil
	}
	return member{}, errors.New("there is no user_id")
}

// do has fn done on the goroutine.
func (p *presence) do(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, fn)
	if !p.running {
		p.running = true
		go p.work()
	}
}

func (p *presence) work() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running = false
			p.mu.Unlock()
			return
		}
		next := p.queue
		p.queue = nil
		p.mu.Unlock()
		for _, fn := range next {
			fn()
		}
	}
}

// enter brings a connection into a channel.
func (p *presence) enter(c *websocket.Conn, channel string, who member) {
	p.do(func() {
		first := p.add(channel, who)
		ids, hash := p.who(channel)
		tell(c, "pusher_internal:subscription_succeeded", channel, map[string]any{
			"presence": map[string]any{"count": len(ids), "ids": ids, "hash": hash},
		})
		p.broker.server.Join(c, channel)
		if first {
			data := map[string]any{"user_id": who.id, "user_info": who.info}
			p.announce("member_added", channel, data, c)
		}
	})
}

// leave notes that a connection of somebody's isn't in a channel any more.
func (p *presence) leave(channel, id string) {
	p.do(func() {
		if p.remove(channel, id) {
			p.announce("member_removed", channel, map[string]any{"user_id": id})
		}
	})
}

func (p *presence) announce(event, channel string, data any, except ...*websocket.Conn) {
	encoded := serverEvent("pusher_internal:"+event, channel, data)
	p.broker.server.Broadcast(channel, encoded, websocket.Text, except...)
}

// add reports whether somebody wasn't there before.
func (p *presence) add(channel string, who member) (first bool) {
	p.shown.Lock()
	defer p.shown.Unlock()
	if p.channels == nil {
		p.channels = map[string]map[string]*user{}
	}
	users := p.channels[channel]
	if users == nil {
		users = map[string]*user{}
		p.channels[channel] = users
	}
	if users[who.id] == nil {
		users[who.id] = &user{info: who.info}
	}
	users[who.id].connections++
	return users[who.id].connections == 1
}

// remove reports whether somebody isn't there any more.
func (p *presence) remove(channel, id string) (last bool) {
	p.shown.Lock()
	defer p.shown.Unlock()
	users := p.channels[channel]
	users[id].connections--
	if users[id].connections > 0 {
		return false
	}
	delete(users, id)
	if len(users) == 0 {
		delete(p.channels, channel)
	}
	return true
}

// who returns who is in a channel, and what is known of them.
func (p *presence) who(channel string) (ids []string, info map[string]json.RawMessage) {
	p.shown.RLock()
	defer p.shown.RUnlock()
	info = map[string]json.RawMessage{}
	for id, u := range p.channels[channel] {
		info[id] = u.info
	}
	return slices.Sorted(maps.Keys(info)), info
}
