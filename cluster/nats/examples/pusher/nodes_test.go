//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/leaktest"
)

// servePair starts two servers over one NATS.
func servePair(t *testing.T) (one, two *house) {
	t.Helper()
	s, err := nats.Embedded(nats.EmbeddedConfig{Listen: true})
	leaktest.Check(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	return serve(t, "-nats", s.URL()), serve(t, "-nats", s.URL())
}

// knows waits until a server answers so of a channel.
func (h *house) knows(channel, want string) {
	h.t.Helper()
	leaktest.Until(h.t, want, func() bool {
		answer, err := h.app.request(h.address, http.MethodGet, "/channels/"+channel, "")
		leaktest.Check(h.t, err)
		return answer == "200 "+want
	})
}

// An event reaches the subscribers of all servers, but for the one that has caused it, whichever
// server it is sent to.
func TestEventsOverTwoServers(t *testing.T) {
	one, two := servePair(t)
	for _, channel := range []string{"news", "private-a", ".a..b."} {
		a, b := one.connect(), two.connect()
		for _, p := range []peer{a, b} {
			p.enter(channel, "")
			p.expect("pusher_internal:subscription_succeeded", channel)
		}
		for _, h := range []*house{one, two} {
			h.knows(channel, `{"occupied":true,"subscription_count":2}`)
		}
		for _, h := range []*house{one, two} {
			for _, spared := range []string{a.socketID, b.socketID, "1.1", "no socket ID"} {
				body := fmt.Sprintf(`{"name":"x","channel":%q,"data":%q,"socket_id":%q}`, channel, spared, spared)
				answer, err := h.app.request(h.address, http.MethodPost, "/events", body)
				if answer != "200 {}" || err != nil {
					t.Fatalf("%s, %v", answer, err)
				}
			}
			for _, p := range []peer{a, b} { // each gets all but its own, in order
				for _, spared := range []string{a.socketID, b.socketID, "1.1", "no socket ID"} {
					if spared == p.socketID {
						continue
					}
					if data := p.expect("x", channel); data != spared {
						t.Errorf("%s in %s; want %s", data, channel, spared)
					}
				}
			}
		}
		if channel == "private-a" {
			a.say(`{"event":"client-x","channel":"private-a","data":"to the other one"}`)
			if data := b.expect("client-x", channel); data != "to the other one" {
				t.Error(data)
			}
			b.say(`{"event":"client-x","channel":"private-a","data":"back"}`)
			if data := a.expect("client-x", channel); data != "back" { // and not its own
				t.Error(data)
			}
		}
	}
}

// Somebody with connections to two servers is there once.
func TestPresenceOverTwoServers(t *testing.T) {
	one, two := servePair(t)
	watchers := []peer{one.connect(), two.connect()}
	for i, w := range watchers {
		w.enter("presence-a", fmt.Sprintf(`{"user_id":"watcher%d"}`, i))
		w.expect("pusher_internal:subscription_succeeded", "presence-a")
		// Both know of it before the next one comes.
		for _, h := range []*house{one, two} {
			h.knows("presence-a", fmt.Sprintf(`{"occupied":true,"subscription_count":%d,"user_count":%d}`, i+1, i+1))
		}
	}
	watchers[0].expect("pusher_internal:member_added", "presence-a")
	for range 10 {
		first, second := one.connect(), two.connect()
		first.enter("presence-a", `{"user_id":7,"user_info":{"name":"Ada"}}`)
		for _, w := range watchers {
			if data := w.expect("pusher_internal:member_added", "presence-a"); data != `{"user_id":"7","user_info":{"name":"Ada"}}` {
				t.Fatal(data)
			}
		}
		second.enter("presence-a", `{"user_id":7,"user_info":{"name":"Ada"}}`)
		want := `{"presence":{"count":3,"hash":{"7":{"name":"Ada"},"watcher0":null,"watcher1":null},"ids":["7","watcher0","watcher1"]}}`
		if data := second.expect("pusher_internal:subscription_succeeded", "presence-a"); data != want {
			t.Fatalf("%s; want %s", data, want)
		}
		for _, h := range []*house{one, two} {
			h.knows("presence-a", `{"occupied":true,"subscription_count":4,"user_count":3}`)
		}
		first.Abort()
		for _, h := range []*house{one, two} {
			h.knows("presence-a", `{"occupied":true,"subscription_count":3,"user_count":3}`)
		}
		second.Abort()
		for _, w := range watchers {
			if data := w.expect("pusher_internal:member_removed", "presence-a"); data != `{"user_id":"7"}` {
				t.Fatal(data)
			}
		}
	}
}

// A server that ends takes its subscribers with it.
func TestAServerEnds(t *testing.T) {
	one, two := servePair(t)
	watcher, guest := one.connect(), two.connect()
	watcher.enter("presence-a", `{"user_id":"watcher"}`)
	watcher.expect("pusher_internal:subscription_succeeded", "presence-a")
	guest.enter("presence-a", `{"user_id":"guest"}`)
	guest.expect("pusher_internal:subscription_succeeded", "presence-a")
	watcher.expect("pusher_internal:member_added", "presence-a")
	two.stop()
	if data := watcher.expect("pusher_internal:member_removed", "presence-a"); data != `{"user_id":"guest"}` {
		t.Error(data)
	}
}

// Whoever leaves and comes again in one go was there all the time.
func TestChangesOfPresence(t *testing.T) {
	of := func(number uint64, id string) cluster.Member {
		return cluster.Member{ID: cluster.ID{Node: "1", Number: number}, Meta: []byte(`{"id":"` + id + `"}`)}
	}
	p := &presence{channels: map[string]map[string]*user{}}
	for i, step := range []struct {
		joined, left   []cluster.Member
		added, removed []string
	}{
		{joined: []cluster.Member{of(1, "a"), of(2, "b"), of(3, "a")}, added: []string{"a", "b"}},
		{joined: []cluster.Member{of(4, "b")}, left: []cluster.Member{of(2, "b"), of(3, "a")}},
		{joined: []cluster.Member{of(5, "c")}, left: []cluster.Member{of(1, "a")}, added: []string{"c"}, removed: []string{"a"}},
		{joined: []cluster.Member{{Meta: []byte("of another program")}}},
		{left: []cluster.Member{of(4, "b"), of(5, "c"), of(6, "unheard of")}, removed: []string{"b", "c"}},
	} {
		added, removed := p.change("presence-a", step.joined, step.left)
		if !slices.Equal(added, step.added) || !slices.Equal(removed, step.removed) {
			t.Errorf("step %d: added %q, removed %q", i, added, removed)
		}
	}
	if len(p.channels) != 0 {
		t.Errorf("left over: %v", p.channels)
	}
}
