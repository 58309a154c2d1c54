//go:build linux

package clients

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
)

var netPeer = Peer{
	Name:       "net",
	Goroutines: 1,
	About: "net, a goroutine per connection, bufio of 64 KiB for packets with a delimiter; with " +
		"TLS net + crypto/tls",
	Plain: []Work{RoundTrip, EOF, Length, Connect, Idle},
	TLS:   []Work{RoundTrip, Full, Resumed, Send, Receive, Idle},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		return newNetClient(c, counters, 0), nil
	},
}

// bufferedPeer is there because it is the better way to receive packets with net, though not the
// usual one.
var bufferedPeer = Peer{
	Name:  "net-bufio",
	About: "net, packets with a length through a bufio.Reader of 64 KiB",
	Plain: []Work{Length},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		n := newNetClient(c, counters, 0)
		n.buffered = true
		return n, nil
	},
}

// slowPeer is there to check the measurement itself: it must show as net and slowBy more.
var slowPeer = Peer{
	Name:  "net+2us",
	About: "net, and " + slowBy.String() + " of busy waiting per message: checks the measurement",
	Plain: []Work{RoundTrip},
	New: func(c *Config, counters *child.Counters) (Client, error) {
		return newNetClient(c, counters, slowBy), nil
	},
}

const slowBy = 2 * time.Microsecond

// netClient is what the standard library's users write.
type netClient struct {
	crew
	busy     time.Duration // wasted per message
	buffered bool
	begin    chan struct{} // closed when the next turn begins
}

func newNetClient(c *Config, counters *child.Counters, busy time.Duration) *netClient {
	return &netClient{crew: crew{config: c, counters: counters}, busy: busy,
		begin: make(chan struct{})}
}

func (n *netClient) Open(more int) error {
	opened := make(chan error, more)
	for range more {
		if n.config.Work == Idle {
			go n.idle(n.workers, opened)
		} else {
			go n.worker(n.workers, n.begin, opened)
		}
		n.workers++
	}
	for range more {
		if err := <-opened; err != nil {
			return err
		}
	}
	return nil
}

func (n *netClient) worker(number int, begin <-chan struct{}, opened chan<- error) {
	step, err := n.open(number)
	opened <- err
	if err == nil {
		n.turns(number, begin, step)
	}
}

func (n *netClient) turns(number int, begin <-chan struct{}, step func() (int, error)) {
	for ok := true; ok; {
		<-begin
		// Start has put the next one there before it closed this one, and after this turn puts
		// another one there.
		begin = n.begin
		ok = n.work(number, step)
	}
}

// idle waits for what doesn't come.
func (n *netClient) idle(number int, opened chan<- error) {
	conn, err := n.dial(number)
	if err == nil {
		err = roundTrip(conn, newMessage(n.config.Size), make([]byte, n.config.Size))
	}
	opened <- err
	if err == nil {
		conn.Read(make([]byte, idleBuffer))
	}
}

func (n *netClient) Start() error {
	begin := n.begin
	n.begin = make(chan struct{})
	n.crew.begin()
	close(begin)
	return nil
}

// open opens a worker's connection, if it keeps one, and returns what the worker does again and
// again.
func (n *netClient) open(number int) (step func() (int, error), err error) {
	c := n.config
	switch config := c.tlsConfig(); c.Work {
	case Connect:
		return func() (int, error) { return 1, n.connect() }, nil
	case Full, Resumed:
		// The first one brings the session.
		return func() (int, error) {
			return 1, n.handshake(config, c.Work == Resumed)
		}, n.handshake(config, false)
	default:
		conn, err := n.dial(number)
		if err != nil {
			return nil, err
		}
		return n.steps(conn)
	}
}

func (n *netClient) dial(number int) (net.Conn, error) {
	address := n.config.address(number)
	if config := n.config.tlsConfig(); config != nil {
		return tls.Dial("tcp", address, config)
	}
	return net.Dial("tcp", address)
}

func (n *netClient) steps(conn net.Conn) (step func() (int, error), err error) {
	switch size := n.config.Size; n.config.Work {
	case EOF:
		r := bufio.NewReaderSize(conn, 64<<10)
		return func() (int, error) {
			for range batch {
				if p, err := r.ReadSlice('\n'); err != nil || len(p) != size {
					return 0, fmt.Errorf("a packet of %d bytes, %w", len(p), err)
				}
			}
			return batch, nil
		}, nil
	case Length:
		packet, from := make([]byte, size), io.Reader(conn)
		if n.buffered {
			from = bufio.NewReaderSize(conn, 64<<10)
		}
		return func() (int, error) { return 1, receivePacket(from, packet) }, nil
	case Send:
		p := make([]byte, size)
		return func() (int, error) { _, err := conn.Write(p); return 1, err }, nil
	case Receive:
		p, rest := make([]byte, 64<<10), 0
		return func() (int, error) {
			got, err := conn.Read(p)
			rest += got
			whole := rest / size
			rest %= size
			return whole, err
		}, nil
	default:
		m, answer := newMessage(size), make([]byte, size)
		step = func() (int, error) {
			if n.busy > 0 {
				burn(n.busy)
			}
			return 1, roundTrip(conn, m, answer)
		}
		_, err = step()
		return step, err
	}
}

func roundTrip(conn net.Conn, m *message, answer []byte) error {
	if _, err := conn.Write(m.next()); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	return m.check(answer)
}

// receivePacket receives a packet, which begins with the length of the rest, into a buffer that is
// used again and again.
func receivePacket(from io.Reader, packet []byte) error {
	if _, err := io.ReadFull(from, packet[:4]); err != nil {
		return err
	}
	rest := int(binary.BigEndian.Uint32(packet))
	if rest != len(packet)-4 {
		return fmt.Errorf("a packet of %d bytes", rest)
	}
	_, err := io.ReadFull(from, packet[4:])
	return err
}

// connect leaves with a reset, as all clients do, so that the machine doesn't run out of ports.
func (n *netClient) connect() error {
	conn, err := net.Dial("tcp", n.config.Addr)
	if err != nil {
		return err
	}
	return reset(conn)
}

func (n *netClient) handshake(config *tls.Config, resumed bool) error {
	conn, err := tls.Dial("tcp", n.config.Addr, config)
	if err != nil {
		return err
	}
	var hello [1]byte
	if _, err = conn.Read(hello[:]); err == nil && conn.ConnectionState().DidResume != resumed {
		err = errResumption
	}
	return errors.Join(err, reset(conn.NetConn()))
}

func reset(conn net.Conn) error {
	return errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close())
}

// burn keeps the CPU busy for d. It asks the clock, as a count of rounds takes longer where others
// use the same core.
func burn(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}
