package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/websocket"
)

// A client joins, leaves and speaks at random, and connects again, anywhere, when its node is gone.
// It notes what it misses.
type client struct {
	b    *battle
	user string

	mu     sync.Mutex
	conn   *websocket.Conn
	seats  map[string]*seat // by room, as it wants it
	leaves map[string]bool  // rooms that it hasn't left yet
}

// A seat is a client's place in a room.
type seat struct {
	joined bool                 // the node has said so
	why    string               // it hasn't
	at     *cluster.Position    // of the last message
	last   map[string]int       // by life of a node: the last number
	heard  map[string]time.Time // and when
	moved  bool                 // it was in the room by another connection before
}

// A loss is that numbers are missing.
type loss struct {
	user, room, from string
	before, after    int
	since, until     time.Time // when the message before has come, and the one after
	moved            bool      // with another connection in between
}

func (l loss) String() string {
	return fmt.Sprintf(
		"%s, in %s, has missed what %s said between %d and %d, from %s to %s",
		l.user,
		l.room,
		l.from,
		l.before,
		l.after,
		l.since.Format(clockTime),
		l.until.Format(clockTime),
	)
}

const clockTime = "15:04:05.000"

func (c *client) send(do command) {
	if conn := c.conn; conn != nil {
		conn.Push(encode(do), websocket.Text)
	}
}

// act does something at random.
func (c *client) act(rooms int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := fmt.Sprint("room", rand.IntN(rooms))
	s := c.seats[room]
	switch {
	case s == nil && len(c.seats) < 3 && !c.leaves[room]:
		c.join(room, newSeat())
	case s != nil && s.joined && rand.IntN(20) == 0:
		delete(c.seats, room)
		c.leaves[room] = true
		c.send(command{Do: "leave", Room: room})
	case s != nil:
		c.send(command{Do: "say", Room: room})
	default:
		for room := range c.seats {
			c.send(command{Do: "say", Room: room})
			break
		}
	}
}

// reach notes a position, unless one behind it was reached: the word that it has joined comes
// behind messages that were sent since.
func (s *seat) reach(at *cluster.Position) {
	if at != nil && (s.at == nil || s.at.Epoch != at.Epoch || s.at.Offset < at.Offset) {
		s.at = at
	}
}

func newSeat() *seat { return &seat{last: map[string]int{}, heard: map[string]time.Time{}} }

func (c *client) join(room string, s *seat) {
	c.seats[room] = s
	do := command{Do: "join", Room: room}
	if c.b.history {
		if do.Since = s.at; do.Since == nil {
			do.Since = new(cluster.Position)
		}
	}
	c.send(do)
}

// connect connects to a node, and has it know what this client wants.
func (c *client) connect(ctx context.Context) {
	for ctx.Err() == nil {
		url := c.b.urls[rand.IntN(len(c.b.urls))]
		dialed, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := c.b.dialer.Dial(dialed, url)
		cancel()
		if err != nil {
			pause(ctx, time.Duration(100+rand.IntN(400))*time.Millisecond)
			continue
		}
		c.b.mu.Lock()
		c.b.clients[conn] = c // before anything is asked, so before anything comes
		c.b.mu.Unlock()
		conn.AtEnd(func() {
			c.b.noteEnd(c.user, time.Now())
			if ctx.Err() == nil {
				c.b.work.Go(func() { c.connect(ctx) })
			}
		})
		c.mu.Lock()
		c.conn, c.leaves = conn, map[string]bool{}
		c.send(command{Do: "user", User: c.user})
		for room, s := range c.seats {
			s.joined = false
			if s.moved = c.b.history && s.at != nil; !s.moved {
				s = newSeat()
			}
			c.join(room, s)
		}
		c.mu.Unlock()
		return
	}
}

// hear takes what the node has said.
func (c *client) hear(conn *websocket.Conn, data []byte) {
	var w word
	if err := json.Unmarshal(data, &w); err != nil {
		c.b.t.Error(err)
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seats[w.Room]
	if conn == c.conn && w.Is == "left" {
		delete(c.leaves, w.Room)
	}
	if conn != c.conn || s == nil {
		return
	}
	switch w.Is {
	case "gap":
		c.b.noteGap(c.user, w.Room, now)
	case "joined":
		if s.why = w.Why; w.Why != "" &&
			w.Why != cluster.ErrUnrecoverable.Error() { // no answer, as of a server that is gone
			c.b.work.Go(func() { c.again(conn, w.Room, s) })
			return
		}
		s.joined = true
		if w.Why != "" { // it can't be given all
			c.b.noteGap(c.user, w.Room, now)
			s.last, s.heard = map[string]int{}, map[string]time.Time{}
		}
		s.reach(w.At)
		s.moved = false
	case "message":
		s.reach(w.At)
		last, known := s.last[w.From]
		switch {
		case known && w.N <= last:
			c.b.t.Errorf("%s, in %s: %d of %s came after %d", c.user, w.Room, w.N, w.From, last)
		case known && w.N > last+1:
			c.b.noteLoss(loss{c.user, w.Room, w.From, last, w.N, s.heard[w.From], now, s.moved})
		}
		s.last[w.From], s.heard[w.From] = w.N, now
		c.b.heard.Add(1)
	}
}

// again joins a room once more.
func (c *client) again(conn *websocket.Conn, room string, s *seat) {
	pause(context.Background(), 200*time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn == c.conn && c.seats[room] == s {
		c.join(room, s)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
