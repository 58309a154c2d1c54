package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// Config is the configuration of a Hub. The zero Config is one node, with rooms in memory.
type Config struct {
	// Broker carries messages between the nodes; nil means Memory without history. A Broker is for
	// one Hub, which closes it.
	Broker Broker

	// Node is the name of this node, which no other one that lives may have; "" means one made of
	// the host's name and a random part. See CheckName.
	Node string

	// Encode makes what WebSockets are sent of what was broadcast; nil: the message as it is.
	// EncodeRaw does so for members that are a *server.Conn: their framing, such as a line's end;
	// nil: the data as Encode returns it. They are called once for each message and node, in order,
	// and must not wait. After a panic the message is missing here, which is a gap.
	Encode    func(p Publication) websocket.Message
	EncodeRaw func(p Publication) []byte

	// OnPresence is told which members have joined a room and which have left it, anywhere; those
	// that have left went first. What comes and goes again before it is called isn't told. OnGap is
	// told of messages that were lost, or may have been. Both run in a coroutine, one at a time,
	// and may wait, which delays what follows. Optional.
	OnPresence func(ctx context.Context, room string, joined, left []Member)
	OnGap      func(ctx context.Context, gap Gap)

	// Heartbeat is how often a node says that it lives: 1 s if 0. A node that says nothing for
	// NodeTimeout loses all its members: 10 s if 0, at least three heartbeats. All nodes should
	// have the same.
	Heartbeat, NodeTimeout time.Duration

	// LeaveGrace is how long a node goes on to listen to a room whose last member here has left:
	// 10 s if 0, not at all if negative.
	LeaveGrace time.Duration

	// MoveTimeout is how long the members of a node that hands over may take to join elsewhere, see
	// Hub.HandOver: 30 s if 0.
	MoveTimeout time.Duration

	// MaxMessage is how many bytes a message may have: 1 MiB if 0, and no more than the Broker
	// carries. MaxMeta is that of what Join is given, 1 KiB if 0. All nodes should have the same.
	MaxMessage, MaxMeta int

	// MaxRooms is how many rooms a connection may be in: 100 if 0. MaxListed is how many members
	// Members returns: 10,000 if 0.
	MaxRooms, MaxListed int

	// MaxQueue is how many bytes may wait for the Broker, or to be handed to the members here: 64
	// MiB if 0.
	MaxQueue int

	// MaxMissed is how many messages of a room's history JoinSince and the Hub itself recover:
	// 1,000 if 0. As many, and no more than 1 MiB, may come meanwhile.
	MaxMissed int

	// Logger is told of what nobody else is: nodes that come and go, bytes that can't be read. nil:
	// the runtime's.
	Logger *zap.Logger
}

// What nobody has to choose.
const (
	maxExcept   = 100       // of a broadcast
	maxReason   = 123       // of a Disconnect: as much as a close frame has
	maxNodes    = 4096      // in a cluster
	maxForeign  = 256 << 20 // bytes of the members of one other node
	maxOverhead = 2 * (MaxName + 16) * (maxExcept + 2)
	maxPart     = 128 << 10 // bytes of a part of what goes to other nodes
)

var (
	// ErrNotRunning is returned before Start and after Close.
	ErrNotRunning = errors.New("cluster: the hub isn't running")

	// ErrTooBig is returned for a message of more than Config.MaxMessage bytes, meta of more than
	// MaxMeta, and more than 100 members that are excepted.
	ErrTooBig = errors.New("cluster: too big")

	// ErrTooMany is returned when a connection would join more than Config.MaxRooms rooms.
	ErrTooMany = errors.New("cluster: the connection is in too many rooms")

	// ErrBound is returned by Bind for a connection that has another user, or is in a room.
	ErrBound = errors.New("cluster: the connection has a user already, or is in a room")

	// ErrNode is why messages may be lost: a node is gone without a word, or wasn't heard for a
	// while.
	ErrNode = errors.New("cluster: a node is gone, or wasn't heard for a while")

	// ErrMissed is why messages are lost: their successors have come without them.
	ErrMissed = errors.New("cluster: messages have not arrived")
)

// limits are those of what comes from other nodes.
type limits struct{ message, meta int }

// Hub is a node's part of the rooms of a cluster. Its methods may be called from any goroutine,
// coroutine and callback, and don't wait unless they say so.
type Hub struct {
	config  Config
	limits  limits
	log     *zap.Logger
	history History // nil: none
	rt      *sched.Runtime
	rooms   *websocket.Rooms

	wake chan struct{} // for the one goroutine that uses the broker, see run
	stop chan context.Context
	ctx  context.Context // until run has ended; its own is the runtime's
	done chan struct{}   // run has ended

	// deliver is held while a message goes out to the members, so that all have the same order. It
	// is for goroutines, not for loops, and is taken before mu.
	deliver sync.Mutex

	mu      sync.Mutex
	phase   phase             // all that follows is guarded by mu
	topics  map[string]*topic // by subject
	members map[Conn]*member
	numbers map[uint64]*member // the same by number
	last    uint64             // number of a member; no other life of this node has it
	me      *node
	nodes   map[string]*node // by name, without this one
	pasts   map[string]past  // by name, of nodes that were dropped
	began   time.Time
	ended   map[origin]*node  // that were in nodes a while ago, see Hub.known
	offers  map[seat][]*entry // of the nodes that hand over
	emptied []*topic          // in the order in which their last local members have left
	work    work
	events  events
	unheard []*topic // that couldn't be subscribed
	queue   []*topic // to be recovered
	healing int      // goroutines that recover
	holding int      // bytes in all holds
	stats   Stats
	warned  time.Time

	// Of run's goroutine.
	recent map[string]*recent // by subject
	number uint64             // of messages
	spoken uint64             // of what went to "nodes"
	ticked time.Time
	beats  uint64

	failing bool
}

type phase uint8

const (
	phaseNew phase = iota
	phaseStarting
	phaseRunning
	phaseClosed
)

// New makes a Hub. What is wrong with the configuration is Start's error.
func New(config Config) *Hub {
	h := &Hub{
		rooms:   websocket.NewRooms(),
		wake:    make(chan struct{}, 1),
		stop:    make(chan context.Context, 1),
		done:    make(chan struct{}),
		ended:   map[origin]*node{},
		offers:  map[seat][]*entry{},
		topics:  map[string]*topic{},
		members: map[Conn]*member{},
		numbers: map[uint64]*member{},
		nodes:   map[string]*node{},
		pasts:   map[string]past{},
		recent:  map[string]*recent{},
	}
	fill := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	fill(&config.MaxMessage, 1<<20)
	fill(&config.MaxMeta, 1<<10)
	fill(&config.MaxRooms, 100)
	fill(&config.MaxListed, 10_000)
	fill(&config.MaxQueue, 64<<20)
	fill(&config.MaxMissed, 1000)
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&config.Heartbeat, time.Second}, {&config.NodeTimeout, 10 * time.Second},
		{&config.LeaveGrace, 10 * time.Second}, {&config.MoveTimeout, 30 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if config.Broker == nil {
		config.Broker = Memory()
	}
	if config.Node == "" {
		host, _ := os.Hostname()
		host, _, _ = strings.Cut(host, ".")
		if config.Node = host + "-" + rand.Text()[:8]; CheckName(config.Node) != nil {
			config.Node = rand.Text()
		}
	}
	h.config = config
	h.history, _ = config.Broker.(History)
	return h
}

// check returns what is wrong with the configuration.
func (c *Config) check() error {
	if err := CheckName(c.Node); err != nil {
		return fmt.Errorf("Config.Node: %w", err)
	}
	for name, negative := range map[string]bool{
		"MaxMessage": c.MaxMessage < 0, "MaxMeta": c.MaxMeta < 0, "MaxRooms": c.MaxRooms < 0,
		"MaxListed": c.MaxListed < 0, "MaxQueue": c.MaxQueue < 0, "MaxMissed": c.MaxMissed < 0,
		"Heartbeat": c.Heartbeat < 0, "MoveTimeout": c.MoveTimeout < 0,
	} {
		if negative {
			return fmt.Errorf("cluster: Config.%s must not be negative", name)
		}
	}
	if c.NodeTimeout < 3*c.Heartbeat {
		return errors.New("cluster: Config.NodeTimeout must be three times Heartbeat, or more")
	}
	return nil
}

// Start connects to the Broker and begins. ctx is that of a runtime or of a coroutine: callbacks
// run on that runtime, whose end is a Close. It waits, and may be called again after an error.
func (h *Hub) Start(ctx context.Context) error {
	rt, err := sched.From(ctx)
	if err != nil {
		return fmt.Errorf("cluster: start: %w", err)
	}
	if err := h.config.check(); err != nil {
		return err
	}
	_, err = sched.AwaitEnd(ctx, func() (struct{}, error) { return struct{}{}, h.start(ctx, rt) })
	if err != nil {
		return fmt.Errorf("cluster: start: %w", err)
	}
	rt.AtEnd(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		h.close(ctx)
	})
	return nil
}

// start is Start on a goroutine. It leaves the rest to run, and ends with the hub running, or as
// new.
func (h *Hub) start(ctx context.Context, rt *sched.Runtime) error {
	h.mu.Lock()
	if h.phase != phaseNew {
		h.mu.Unlock()
		return errors.New("the hub was started before")
	}
	h.phase, h.rt = phaseStarting, rt
	if h.log = h.config.Logger; h.log == nil {
		h.log = rt.Logger()
	}
	h.log = h.log.With(zap.String("node", h.config.Node))
	h.me = &node{
		origin: origin{h.config.Node, uint64(time.Now().UnixNano())}, synced: true,
		tracks: map[string]*track{},
	}
	h.last = h.me.incarnation / 1000
	h.began = time.Now()
	h.ticked = h.began
	h.mu.Unlock()
	err := h.greet(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		var cancel context.CancelFunc
		h.ctx, cancel = context.WithCancel(rt.Context())
		go func() {
			defer cancel()
			h.run()
		}()
		if h.phase == phaseStarting { // and not closed meanwhile
			h.phase = phaseRunning
		}
	case h.phase == phaseStarting:
		h.phase = phaseNew
	default:
		close(h.done)
	}
	return err
}

// greet starts the Broker and says hello.
func (h *Hub) greet(ctx context.Context) error {
	broker := h.config.Broker
	if err := broker.Start(ctx, (*receiver)(h)); err != nil {
		return err
	}
	most := broker.MaxMessage() - maxOverhead
	h.mu.Lock()
	h.limits = limits{message: most, meta: most}
	h.mu.Unlock()
	err := errors.Join(broker.Subscribe(subjectNodes), broker.Subscribe(subjectNode+h.me.name))
	switch {
	case most < 1024:
		err = fmt.Errorf("the broker carries no more than %d bytes in a message",
			broker.MaxMessage())
	case err == nil:
		// The connection may have ended since; the next heartbeat says as much.
		if err = h.say(kindHello, nil); errors.Is(err, ErrDisconnected) {
			err = nil
		}
	}
	if err != nil {
		broker.Close(ctx)
	}
	return err
}

// Node returns the name of this node.
func (h *Hub) Node() string { return h.config.Node }

// HandOver tells the other nodes that the members of this one are about to join elsewhere, as when
// a server is replaced: until they have, or Config.MoveTimeout is over, they count as members, and
// a user who leaves here and joins there is told to have moved (Member.Replaces). It is to be
// called before the connections are closed, and Close after that. If there is no Close, the node is
// one like the others again when MoveTimeout is over.
func (h *Hub) HandOver() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == phaseRunning {
		h.work.handOver = true
		if !h.moving() {
			h.me.moves = time.Now().Add(h.config.MoveTimeout)
			h.ofOwn(h.offer)
		}
		h.signal()
	}
}

// moving reports whether this node hands over. The caller holds mu.
func (h *Hub) moving() bool { return !h.me.moves.IsZero() }

// stay ends a HandOver whose time is over. Those who are still here are members again beside those
// who have taken their places.
func (h *Hub) stay() {
	h.ofOwn(h.withdraw)
	h.me.moves = time.Time{}
	h.ofOwn(func(e *entry) {
		if e.index < 0 {
			h.appear(e)
		}
	})
}

// ofOwn calls fn for the entries of this node.
func (h *Hub) ofOwn(fn func(e *entry)) {
	for _, m := range h.members {
		for _, e := range m.entries {
			fn(e)
		}
	}
}

// Close ends the Hub in order: what was broadcast still goes out, the other nodes are told that the
// members of this one are gone, and the Broker is closed. It waits, until ctx is done; nothing
// begins any more in any case.
func (h *Hub) Close(ctx context.Context) error {
	_, err := runtime.Await(context.WithoutCancel(ctx), func() (struct{}, error) {
		return struct{}{}, h.close(ctx)
	})
	return err
}

// close is Close on a goroutine.
func (h *Hub) close(ctx context.Context) error {
	h.mu.Lock()
	before := h.phase
	h.phase = phaseClosed
	h.mu.Unlock()
	switch before {
	case phaseNew:
		return nil
	case phaseStarting, phaseRunning:
		h.stop <- ctx
	}
	select {
	case <-h.done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// signal has run look for work.
func (h *Hub) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// reject counts what can't be read, and logs it once in a while. The caller holds mu.
func (h *Hub) reject(subject string, err error) {
	h.stats.Rejected++
	if now := time.Now(); now.Sub(h.warned) > time.Minute {
		h.warned = now
		h.log.Warn("cluster: a message of another node was rejected",
			zap.String("subject", subject), zap.Error(err))
	}
}
