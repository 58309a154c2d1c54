//go:build linux

package clients

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

// crew is what the workers of a client share: each worker, which has one connection, does operation
// after operation from the beginning of a turn to its end.
type crew struct {
	config   *Config
	counters *child.Counters
	workers  int

	stop    atomic.Bool
	running sync.WaitGroup // workers in a turn
	failed  atomic.Pointer[error]
}

// idleBuffer is the read buffer of an idle client that holds one, in bytes: bufio's default.
const idleBuffer = 4096

var errResumption = errors.New("a session was resumed that shouldn't be, or wasn't that should be")

// batch is how many small packets a worker receives at a time, between two looks at whether it has
// to stop.
const batch = 64

// begin is for Start, before the workers are told.
func (c *crew) begin() {
	c.stop.Store(false)
	c.running.Add(c.workers)
}

// Stop is that of Client.
func (c *crew) Stop() error {
	c.stop.Store(true)
	c.running.Wait()
	return c.error()
}

func (c *crew) error() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail keeps the first error.
func (c *crew) fail(worker int, err error) {
	err = fmt.Errorf("worker %d: %w", worker, err)
	c.failed.CompareAndSwap(nil, &err)
}

// work is a worker's turn: step does some operations, and tells how many.
func (c *crew) work(worker int, step func() (operations int, err error)) (ok bool) {
	defer c.running.Done()
	counter := c.counters.Of(worker)
	for !c.stop.Load() {
		operations, err := step()
		if err != nil {
			c.fail(worker, err)
			return false
		}
		counter.Add(int64(operations))
	}
	return true
}

// message is what goes to and fro on a connection: the length of the rest in 32 bits, a number in
// 64, and some bytes.
type message struct {
	p   []byte
	seq uint64
}

func newMessage(size int) *message {
	m := &message{p: make([]byte, size)}
	binary.BigEndian.PutUint32(m.p, uint32(size-4))
	for i := MinSize; i < size; i++ {
		m.p[i] = byte(i * 31)
	}
	return m
}

// next numbers the message, and returns it.
func (m *message) next() []byte {
	m.seq++
	binary.NativeEndian.PutUint64(m.p[4:], m.seq)
	return m.p
}

// check tells whether what came back is the last message. The first one is compared as a whole.
func (m *message) check(answer []byte) error {
	if len(answer) == len(m.p) && binary.NativeEndian.Uint64(answer[4:]) == m.seq &&
		(m.seq > 1 || bytes.Equal(answer, m.p)) {
		return nil
	}
	return fmt.Errorf("message %d of %d bytes came back as %d bytes", m.seq, len(m.p), len(answer))
}
