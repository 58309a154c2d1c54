package nats_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

// A speaker publishes numbered messages to all rooms, those that were taken one after the other.
type speaker struct {
	*brokertest.Node
	taken  [rooms]int
	breaks [][rooms]int // taken, each time that its connection was lost
}

// broke tells whether messages of a room, from one on and up to another, may have been lost when
// the connection of the one who published them was, which other nodes aren't told.
func (s *speaker) broke(room, from, to int) bool {
	for _, taken := range s.breaks {
		if from < taken[room] && taken[room] <= to {
			return true
		}
	}
	return false
}

const rooms = 5

// speak publishes to the rooms at random, until it is told to stop. A message that isn't taken is
// tried again: it must not have been sent.
func (s *speaker) speak(t *testing.T, name int, stop *atomic.Bool) {
	connected := true
	for !stop.Load() {
		r := rand.IntN(rooms)
		err := s.Publish(fmt.Sprint("room.", r), fmt.Append(nil, name, " ", s.taken[r]))
		switch {
		case err == nil:
			s.taken[r]++
			connected = true
		case !errors.Is(err, cluster.ErrDisconnected):
			t.Error(err)
			return
		case connected:
			s.breaks = append(s.breaks, s.taken)
			connected = false
		}
		time.Sleep(rand.N(200 * time.Microsecond))
	}
}

// heard checks what a node has received of all speakers: at most once, in order, and each loss is
// covered by an event between the message before and the one behind, or the speaker's connection
// was lost there.
func heard(t *testing.T, events []brokertest.Event, speakers []*speaker) (missing int) {
	t.Helper()
	var next [3][rooms]int
	var said [3][rooms]bool
	var offsets [rooms]cluster.Position
	for _, e := range events {
		if e.Lost != nil {
			for s := range said {
				for r := range rooms {
					if e.Subject == "" || e.Subject == fmt.Sprint("room.", r) {
						said[s][r] = true
					}
				}
			}
			continue
		}
		var s, i, r int
		_, err := fmt.Sscan(e.Message, &s, &i)
		_, err2 := fmt.Sscanf(e.Subject, "room.%d", &r)
		if err != nil || err2 != nil || i < next[s][r] {
			t.Fatalf("%v, %v: %v, want message %d", err, err2, e, next[s][r])
		}
		if i > next[s][r] && !said[s][r] && !speakers[s].broke(r, next[s][r], i) {
			t.Errorf("messages %d to %d of %d in room %d are silently lost", next[s][r], i-1, s, r)
		}
		if at := e.At; at.Epoch != "" {
			if at.Epoch == offsets[r].Epoch && at.Offset <= offsets[r].Offset {
				t.Errorf("%v is behind %v", at, offsets[r])
			}
			offsets[r] = at
		}
		missing += i - next[s][r]
		next[s][r], said[s][r] = i+1, false
	}
	for s, speaker := range speakers {
		for r := range rooms {
			if next[s][r] != speaker.taken[r] && !said[s][r] {
				t.Errorf("messages from %d of %d in room %d are silently lost", next[s][r], s, r)
			}
		}
	}
	return missing
}

func TestEveryLossIsSaidWhileAServerIsKilledAndStopped(t *testing.T) {
	for name, h := range map[string]*nats.History{
		"without a history": nil,
		"with a history":    {MaxBytes: 64 << 20, MaxMessages: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			if h != nil {
				dir = t.TempDir()
			}
			p := spawn(t, 0, dir)
			config := impatient(nats.Config{History: h, PingInterval: 100 * time.Millisecond})
			var speakers []*speaker
			for range 3 {
				n, _ := connect(t, p.url, config)
				speakers = append(speakers, &speaker{Node: n})
			}
			for r := range rooms {
				brokertest.Join(speakers[0].Node, fmt.Sprint("room.", r), nodesOf(speakers)...)
			}
			disturb(t, p, speakers)
			for i, s := range speakers {
				events := s.Events()
				t.Logf("node %d: %d events, %d messages missing", i, len(events),
					heard(t, events, speakers))
			}
		})
	}
}

func nodesOf(speakers []*speaker) (nodes []*brokertest.Node) {
	for _, s := range speakers {
		nodes = append(nodes, s.Node)
	}
	return nodes
}

// disturb has all speak while the server is killed and stopped, and waits until what was said last
// has arrived.
func disturb(t *testing.T, p *process, speakers []*speaker) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i, s := range speakers {
		wg.Go(func() { s.speak(t, i, &stop) })
	}
	for i := range 6 {
		time.Sleep(100*time.Millisecond + rand.N(200*time.Millisecond))
		if i%3 == 2 {
			p.signal(syscall.SIGSTOP)
			time.Sleep(rand.N(600 * time.Millisecond))
			p.signal(syscall.SIGCONT)
		} else {
			p.kill()
			p.start()
		}
	}
	time.Sleep(300 * time.Millisecond)
	stop.Store(true)
	wg.Wait()
	// One more of each that arrives everywhere is behind all others.
	for i, s := range speakers {
		for r := range rooms {
			room := fmt.Sprint("room.", r)
			until(t, "the last message arrives", func() bool {
				text := fmt.Sprint(i, " ", s.taken[r])
				if s.Publish(room, []byte(text)) != nil {
					return false
				}
				s.taken[r]++
				return arrivesSoon(speakers, room, text)
			})
		}
	}
}

func arrivesSoon(speakers []*speaker, room, text string) bool {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		count := 0
		for _, s := range speakers {
			events := s.Events()
			for _, e := range events[max(0, len(events)-50):] {
				if e.Subject == room && e.Message == text {
					count++
					break
				}
			}
		}
		if count == len(speakers) {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}
