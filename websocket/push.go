package websocket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/websocket/internal/engine"
)

// scratch has buffers in which frames are made.
var scratch = sync.Pool{New: func() any { return new(make([]byte, 0, 1024)) }}

// joined is the size up to which a header and its payload are copied together.
const joined = 1024

// maxScratch is how large a buffer scratch keeps.
const maxScratch = 64 << 10

func putScratch(buf *[]byte) {
	if cap(*buf) <= maxScratch {
		scratch.Put(buf)
	}
}

// randoms has random bytes for masks, which must not be foreseen (RFC 6455, section 5.3).
var randoms = sync.Pool{New: func() any { return new(reserve) }}

type reserve struct {
	bytes [1024]byte
	left  int
}

func randomMask() (mask [4]byte) {
	r := randoms.Get().(*reserve)
	if r.left < len(mask) {
		rand.Read(r.bytes[:]) // it doesn't fail
		r.left = len(r.bytes)
	}
	r.left -= len(mask)
	copy(mask[:], r.bytes[r.left:])
	randoms.Put(r)
	return mask
}

// Push sends a message: Text or Binary, whose data may be used again when it returns, or a Ping or
// Pong of up to 125 bytes. It never waits. What goes out in one turn of the loop goes out together,
// in the order of the calls of each goroutine.
//
// The status says what has become of it, see Dropped and Options.OnSlow. The error is
// ErrNotEstablished before the handshake is over, and a *CloseError when the connection has ended
// or is ending.
func (c *Conn) Push(data []byte, op Opcode) (Status, error) {
	if err := c.usable(); err != nil {
		return Dropped, err
	}
	switch op {
	case Text, Binary:
	case Ping, Pong:
		return c.pushControl(op, data)
	default:
		return Dropped, errors.New("websocket: Push of " + op.String())
	}
	if c.state.Load()&flagStreaming != 0 {
		return Dropped, socket.ErrBusy
	}
	if c.home.here() {
		return c.push(engine.Opcode(op), data)
	}
	return c.pushOutside(engine.Opcode(op), data)
}

// Ping sends a ping, of up to 125 bytes; OnPong gets the answer.
func (c *Conn) Ping(data []byte) error {
	_, err := c.Push(data, Ping)
	return err
}

func (c *Conn) pushControl(op Opcode, data []byte) (Status, error) {
	if len(data) > 125 {
		return Dropped, ErrTooBig
	}
	if c.home.here() {
		return c.sendControl(engine.Opcode(op), data), nil
	}
	data = bytes.Clone(data)
	if !c.home.do(func() { c.sendControl(engine.Opcode(op), data) }) {
		return Dropped, c.ending()
	}
	return c.status(), nil
}

// sendControl sends a ping or a pong, unless too much waits for the peer.
func (c *Conn) sendControl(op engine.Opcode, data []byte) Status {
	if c.current() != stateOpen || c.state.Load()&flagFull != 0 {
		return Dropped
	}
	buf := scratch.Get().(*[]byte)
	defer putScratch(buf)
	*buf = engine.AppendMessage((*buf)[:0], c.params().role, op, data, c.mask())
	if c.carrier.send(*buf) != nil {
		return Dropped
	}
	return c.status()
}

// status is that of a message that was queued.
func (c *Conn) status() Status {
	if c.state.Load()&flagFull != 0 {
		return BackPressure
	}
	return Queued
}

// compresses reports whether a message of n bytes is compressed.
func (c *Conn) compresses(n int) bool {
	return c.params().engine.Deflate != nil && n >= c.params().Compression.MinSize
}

// push sends a message from home.
func (c *Conn) push(op engine.Opcode, data []byte) (Status, error) {
	buf := scratch.Get().(*[]byte)
	defer putScratch(buf)
	role := c.params().role
	switch {
	case c.compresses(len(data)):
		*buf = c.compress((*buf)[:0], op, data)
	case role == engine.Client || len(data) <= joined:
		*buf = engine.AppendMessage((*buf)[:0], role, op, data, c.mask())
	default:
		*buf = engine.AppendHeader((*buf)[:0], role, op, true, false, len(data), [4]byte{})
		return c.queue(*buf, data)
	}
	return c.queue(*buf, nil)
}

// compress appends a message, compressed.
func (c *Conn) compress(dst []byte, op engine.Opcode, data []byte) []byte {
	if d := c.params().engine.Deflate; !d.SendTakeover {
		var none engine.Sender
		return none.AppendCompressed(dst, &c.params().engine, op, data, c.mask())
	}
	return c.toRare().sender.AppendCompressed(dst, &c.params().engine, op, data, c.mask())
}

// hasRoom reports whether n more bytes may wait for the peer. What is small isn't counted exactly
// before there is much.
func (c *Conn) hasRoom(n int) bool {
	return n <= joined && c.state.Load()&flagFull == 0 ||
		c.carrier.queued()+n <= c.params().MaxQueue
}

// queue sends a frame, of one part or two. Both go out, or none.
func (c *Conn) queue(frame, rest []byte) (Status, error) {
	err := socket.ErrQueueFull
	if c.hasRoom(len(frame) + len(rest)) {
		if err = c.carrier.send(frame); err == nil && len(rest) > 0 {
			if err = c.carrier.send(rest); err != nil {
				c.finish(true, StatusAbnormal, "", err) // half a frame is on its way
			}
		}
	}
	switch {
	case err == nil:
		return c.status(), nil
	case errors.Is(err, socket.ErrQueueFull):
		return c.slow()
	}
	return Dropped, err
}

// slow deals with a peer that takes too little.
func (c *Conn) slow() (Status, error) {
	if c.current() != stateOpen {
		return Dropped, c.usable()
	}
	if fn := c.params().OnSlow; fn != nil && fn(c) {
		return Dropped, nil
	}
	c.shut(StatusTryAgainLater, "too slow", ErrSlow)
	return Dropped, ErrSlow
}

// passing is what a message costs on its way to the home, beside its data.
const passing = 128

// pushOutside sends a message from elsewhere.
func (c *Conn) pushOutside(op engine.Opcode, data []byte) (Status, error) {
	r, p, n := c.toRare(), c.params(), int64(len(data)+passing)
	waiting := r.outside.Add(n)
	if c.state.Load()&flagFull != 0 {
		waiting += int64(c.carrier.queued())
	}
	if waiting > int64(p.MaxQueue) {
		r.outside.Add(-n)
		if !r.slow.Swap(true) {
			c.home.do(func() {
				r.slow.Store(false)
				c.slow()
			})
		}
		return Dropped, nil
	}
	var frame []byte
	inOrder := p.engine.Deflate != nil && p.engine.Deflate.SendTakeover // as they go out
	switch {
	case inOrder:
		data = bytes.Clone(data)
	case c.compresses(len(data)):
		frame = c.compress(nil, op, data)
	default:
		frame = engine.AppendMessage(nil, p.role, op, data, c.mask())
	}
	var send func()
	send = func() {
		switch {
		case c.keeps(send):
			return
		case c.current() != stateOpen || c.params() != p: // or this is another connection by now
		case inOrder:
			c.push(op, data)
		default:
			c.queue(frame, nil)
		}
		r.outside.Add(-n)
	}
	if !c.home.do(send) {
		return Dropped, c.ending()
	}
	// Half of what is sure to have room: it is to be told before the next one is dropped.
	if r.outside.Load() > int64(p.MaxQueue-p.HighWater)/2 {
		if c.state.Or(flagOwed)&flagOwed == 0 {
			c.home.do(func() { c.home.later(c.arrived) })
		}
		return BackPressure, nil
	}
	return c.status(), nil
}

// arrived follows BackPressure for what was on its way here: it has come, and been sent. If that is
// much, bufferEmpty calls OnDrained.
func (c *Conn) arrived() {
	c.state.And(^flagOwed)
	if c.state.Load()&flagFull == 0 {
		c.drained()
	}
}

func (c *Conn) drained() {
	if fn := c.params().OnDrained; fn != nil && c.current() == stateOpen {
		fn(c.context(), c)
	}
}

// keeps reports whether a Writer is open: then it keeps what would be sent within its message, for
// afterwards.
func (c *Conn) keeps(send func()) bool {
	if c.state.Load()&flagStreaming == 0 {
		return false
	}
	r := c.toRare()
	r.kept = append(r.kept, send)
	return true
}

// Drain waits until, after BackPressure, no more than Options.LowWater waits for the peer. It
// returns at once when that is so, and a *CloseError when the connection ends. Whoever calls it
// after each BackPressure has nothing dropped, unless others push at the same time.
func (c *Conn) Drain(ctx context.Context) error {
	for c.state.Load()&flagFull != 0 || c.outside() > 0 {
		var drained *runtime.Channel[struct{}]
		err := c.await(func() error { // behind what was pushed
			if err := c.usable(); err != nil || c.state.Load()&flagFull == 0 {
				return err
			}
			r := c.toRare()
			if r.drained == nil {
				r.drained = runtime.NewChannel[struct{}](1)
			}
			drained = r.drained
			return nil
		})
		if err != nil {
			return err
		}
		if drained == nil {
			break
		}
		if _, err := drained.Pop(ctx); err != nil && !errors.Is(err, runtime.ErrChannelClosed) {
			return err
		}
	}
	return c.usable()
}

// outside is how much is on its way to the home.
func (c *Conn) outside() int64 {
	if r := c.rare.Load(); r != nil {
		return r.outside.Load()
	}
	return 0
}

// bufferFull and bufferEmpty are called by the carrier.
func (c *Conn) bufferFull() {
	c.state.Or(flagFull)
	if r := c.rare.Load(); r != nil && r.pipe != nil {
		r.pipe.full()
	}
}

func (c *Conn) bufferEmpty() {
	if c.state.And(^flagFull)&flagFull == 0 {
		return
	}
	if r := c.rare.Load(); r != nil {
		if r.drained != nil {
			r.drained.Close()
			r.drained = nil
		}
		if r.pipe != nil {
			r.pipe.empty()
		}
	}
	c.drained()
}
