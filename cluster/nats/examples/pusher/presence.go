package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/websocket"
)

// A presence knows who is in the presence channels, on all nodes. Somebody may be there with
// several connections, on several nodes: the first one that comes is announced, and so is the last
// one's going. Each node tells its own subscribers, in the order in which it has heard itself.
type presence struct {
	broker *broker

	mu       sync.RWMutex
	channels map[string]map[string]*user // by channel and user; guarded by mu
}

// A user is in a channel.
type user struct {
	info        json.RawMessage
	connections int
}

// A member is what channel_data says of somebody. The others are told it as the meta of a Join.
type member struct {
	ID   string          `json:"id"`
	Info json.RawMessage `json:"info,omitempty"`
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

// told is the hub's OnPresence, which is called once at a time. Whoever has been told who is there
// is in a room of the server's own, for what comes and goes from then on: in the hub's it is before
// that.
func (p *presence) told(_ context.Context, room string, joined, left []cluster.Member) {
	channel, server := channelOf(room), p.broker.server
	if !isPresence(channel) {
		return
	}
	for _, m := range left {
		if c, here := p.broker.hub.Conn(m.ID).(*websocket.Conn); here {
			server.Leave(c, channel)
		}
	}
	added, removed := p.change(channel, joined, left)
	ids, hash := p.who(channel)
	announce := func(event string, data any) {
		encoded := serverEvent("pusher_internal:"+event, channel, data)
		server.Broadcast(channel, encoded, websocket.Text)
	}
	for _, id := range removed {
		announce("member_removed", map[string]any{"user_id": id})
	}
	for _, id := range added {
		announce("member_added", map[string]any{"user_id": id, "user_info": hash[id]})
	}
	for _, m := range joined {
		if c, here := p.broker.hub.Conn(m.ID).(*websocket.Conn); here {
			tell(c, "pusher_internal:subscription_succeeded", channel, map[string]any{
				"presence": map[string]any{"count": len(ids), "ids": ids, "hash": hash},
			})
			server.Join(c, channel)
		}
	}
}

// change counts connections in and out, and returns who is there now and wasn't before, and the
// other way round.
func (p *presence) change(channel string, joined, left []cluster.Member) (added, removed []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	users := p.channels[channel]
	if users == nil {
		users = map[string]*user{}
		p.channels[channel] = users
	}
	before := map[string]bool{}
	count := func(m cluster.Member, n int) {
		var who member
		if json.Unmarshal(m.Meta, &who) != nil {
			return // another program's
		}
		u := users[who.ID]
		if _, known := before[who.ID]; !known {
			before[who.ID] = u != nil
		}
		if u == nil {
			u = &user{info: who.Info}
			users[who.ID] = u
		}
		u.connections += n
	}
	for _, m := range left {
		count(m, -1)
	}
	for _, m := range joined {
		count(m, 1)
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		there := users[id].connections > 0
		if !there {
			delete(users, id)
		}
		switch {
		case there && !before[id]:
			added = append(added, id)
		case !there && before[id]:
			removed = append(removed, id)
		}
	}
	if len(users) == 0 {
		delete(p.channels, channel)
	}
	return added, removed
}

// who returns who is in a channel, and what is known of them.
func (p *presence) who(channel string) (ids []string, info map[string]json.RawMessage) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	info = map[string]json.RawMessage{}
	for id, u := range p.channels[channel] {
		info[id] = u.info
	}
	return slices.Sorted(maps.Keys(info)), info
}
