package websocket

import (
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
	data = append([]byte(nil), data...)
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
	*buf = engine.AppendMessage((*buf)[:0], c.params.role, op, data, c.mask())
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
	return c.params.engine.Deflate != nil && n >= c.params.Compression.MinSize
}

// push sends a message from home.
func (c *Conn) push(op engine.Opcode, data []byte) (Status, error) {
	buf := scratch.Get().(*[]byte)
	defer putScratch(buf)
	role := c.params.role
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
	if d := c.params.engine.Deflate; !d.SendTakeover {
		var none engine.Sender
		return none.AppendCompressed(dst, &c.params.engine, op, data, c.mask())
	}
	return c.toRare().sender.AppendCompressed(dst, &c.params.engine, op, data, c.mask())
}

// queue sends a frame, of one part or two. Both go out, or none.
func (c *Conn) queue(frame, rest []byte) (Status, error) {
	err := socket.ErrQueueFull
	if n := len(frame) + len(rest); n <= joined || c.carrier.queued()+n <= c.params.MaxQueue {
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
	if fn := c.params.OnSlow; fn != nil && fn(c) {
		return Dropped, nil
	}
	c.shut(StatusTryAgainLater, "too slow", ErrSlow)
	return Dropped, ErrSlow
}

// pushOutside sends a message from elsewhere.
func (c *Conn) pushOutside(op engine.Opcode, data []byte) (Status, error) {
	r, n := c.toRare(), int64(len(data))
	waiting := r.outside.Add(n)
	if c.state.Load()&flagFull != 0 {
		waiting += int64(c.carrier.queued())
	}
	if waiting > int64(c.params.MaxQueue) {
		r.outside.Add(-n)
		c.home.do(func() { c.slow() })
		return Dropped, nil
	}
	p := c.params
	var fn func()
	if d := p.engine.Deflate; d != nil && d.SendTakeover { // in the order in which they go out
		data = append([]byte(nil), data...)
		fn = func() {
			r.outside.Add(-n)
			if c.current() == stateOpen {
				c.push(op, data)
			}
		}
	} else {
		var frame []byte
		if c.compresses(len(data)) {
			frame = c.compress(nil, op, data)
		} else {
			frame = engine.AppendMessage(nil, p.role, op, data, c.mask())
		}
		fn = func() {
			r.outside.Add(-n)
			if c.current() == stateOpen {
				c.queue(frame, nil)
			}
		}
	}
	if !c.home.do(fn) {
		return Dropped, c.ending()
	}
	if r.outside.Load() > int64(p.MaxQueue-p.HighWater) { // all that is sure to have room
		return BackPressure, nil
	}
	return c.status(), nil
}

// Drain waits until, after BackPressure, no more than Options.LowWater waits for the peer. It
// returns at once when that is so, and a *CloseError when the connection ends. Whoever calls it
// after each BackPressure has nothing dropped.
func (c *Conn) Drain(ctx context.Context) error {
	for c.state.Load()&flagFull != 0 || c.outside() > 0 {
		if err := c.usable(); err != nil {
			return err
		}
		var drained *runtime.Channel[struct{}]
		asked := runtime.NewChannel[struct{}](1)
		if !c.home.do(func() {
			r := c.toRare()
			if r.drained == nil {
				r.drained = runtime.NewChannel[struct{}](1)
			}
			drained = r.drained
			asked.Push(context.Background(), struct{}{})
		}) {
			return c.ending()
		}
		if _, err := asked.Pop(ctx); err != nil {
			return err
		}
		if c.state.Load()&flagFull == 0 {
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
	if fn := c.params.OnDrained; fn != nil && c.current() == stateOpen {
		fn(c.context(), c)
	}
}

// Writer sends one message in fragments (RFC 6455, section 5.4), each Write one. Write waits while
// too much waits for the peer. Close sends the last, empty fragment; a message that isn't closed
// keeps all others from being sent: Push returns socket.ErrBusy meanwhile, but for pings.
type Writer struct {
	c       *Conn
	ctx     context.Context
	op      engine.Opcode
	begun   bool
	over    bool
	deflate bool
}

// Writer begins a message, of Text or Binary. ctx bounds its waiting. It returns socket.ErrBusy when
// another one is open.
func (c *Conn) Writer(ctx context.Context, op Opcode) (*Writer, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	if op != Text && op != Binary {
		return nil, errors.New("websocket: Writer of " + op.String())
	}
	if c.state.Or(flagStreaming)&flagStreaming != 0 {
		return nil, socket.ErrBusy
	}
	return &Writer{c: c, ctx: ctx, op: engine.Opcode(op), deflate: c.params.engine.Deflate != nil}, nil
}

// Write sends a fragment.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.fragment(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the message.
func (w *Writer) Close() error {
	if w.over {
		return nil
	}
	err := w.fragment(nil, true)
	w.over = true
	w.c.state.And(^flagStreaming)
	return err
}

func (w *Writer) fragment(p []byte, final bool) error {
	c := w.c
	if w.over {
		return errors.New("websocket: the message has ended")
	}
	if err := c.Drain(w.ctx); err != nil {
		return err
	}
	first := !w.begun
	w.begun = true
	sent := runtime.NewChannel[error](1)
	if !c.home.do(func() {
		frame := c.toRare().sender.AppendPiece(nil, &c.params.engine, w.op, p, first, final, w.deflate, c.mask())
		_, err := c.queue(frame, nil)
		sent.Push(context.Background(), err)
	}) {
		return c.ending()
	}
	err, waiting := sent.Pop(w.ctx)
	return errors.Join(err, waiting)
}
