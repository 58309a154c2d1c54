//go:build linux

package client_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
)

// Close wakes who waits, each once, with net.ErrClosed, and who comes later gets the same. That
// something is still to be delivered makes no difference.
func TestCloseWakes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		end    func(*client.Client) error
		linger time.Duration
	}{
		{"Close", (*client.Client).Close, -1},
		{"Close that lingers", (*client.Client).Close, soon},
		{"Abort", (*client.Client).Abort, soon},
	} {
		t.Run(tc.name, func(t *testing.T) {
			transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
				address := serve(t, func(s *script) {
					open(s)
					s.idle()
				})
				c := connect(ctx, t, client.Config{TLS: trusting(), Linger: tc.linger}, network, address)
				var sends, recvs atomic.Int64
				sender := start(ctx, t, func(ctx context.Context) error {
					n, err := c.Send(ctx, make([]byte, 64<<20))
					sends.Add(1)
					if n == 64<<20 {
						return errors.New("all was sent")
					}
					return err
				})
				receiver := start(ctx, t, func(ctx context.Context) error {
					_, err := c.Recv(ctx)
					recvs.Add(1)
					return err
				})
				eventually(ctx, t, "both wait", func() bool { return waiting(ctx, t, "socket send") && waiting(ctx, t, "socket recv") })
				check(t, tc.end(c))
				wantError(t, "Send", sender(), net.ErrClosed)
				wantError(t, "Recv", receiver(), net.ErrClosed)
				if sends.Load() != 1 || recvs.Load() != 1 {
					t.Errorf("Send has returned %d times, Recv %d times", sends.Load(), recvs.Load())
				}
				_, err := c.Recv(ctx)
				wantError(t, "Recv afterwards", err, net.ErrClosed)
			})
		})
	}
}

// digest is what has arrived at a server.
type digest struct {
	size int64
	sum  [sha256.Size]byte
	err  error
}

// digestOf reads to the end and says what it was.
func digestOf(r io.Reader) (d digest) {
	hash := sha256.New()
	d.size, d.err = io.Copy(hash, r)
	hash.Sum(d.sum[:0])
	return d
}

// Close returns at once and delivers what was sent, 16 MiB, the last part of which the server reads
// only after Close. Run doesn't return before that. The server may send without end meanwhile,
// which nobody reads: to close the socket then would reset the connection.
func TestCloseDelivers(t *testing.T) {
	const size, late = 16 << 20, 256 << 10
	data := numbers(size)
	want := sha256.Sum256(data)
	for _, chatty := range []bool{false, true} {
		t.Run(fmt.Sprintf("chatty=%v", chatty), func(t *testing.T) {
			transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
				closed, arrived := make(chan struct{}), make(chan digest, 1)
				address := serve(t, func(s *script) {
					open(s)
					if chatty {
						go io.Copy(s, endless{})
					}
					early := io.LimitReader(s.Conn, size-late)
					arrived <- digestOf(io.MultiReader(early, waiter{closed}, s.Conn))
				})
				c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
				if n, err := c.Send(ctx, data); n != size || err != nil {
					t.Fatalf("sent %d bytes, %v", n, err)
				}
				check(t, c.Close())
				close(closed)
				// Nothing waits for the delivery here: it goes on after this function has returned,
				// and is looked at when the runtime has ended.
				t.Cleanup(func() {
					got := <-arrived
					if got.size != size || got.sum != want || got.err != nil {
						t.Errorf("%d bytes have arrived, the right ones: %v, %v", got.size, got.sum == want, got.err)
					}
				})
			})
		})
	}
}

// endless has always something to read.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// waiter is at its end, but not before something is closed.
type waiter struct{ until <-chan struct{} }

func (w waiter) Read([]byte) (int, error) {
	<-w.until
	return 0, io.EOF
}

// The peer reads the end, and no error, even if what it has said itself was never received.
func TestCloseWithInputUnread(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		heard, ended := make(chan struct{}), make(chan error, 1)
		address := serve(t, func(s *script) {
			open(s)
			s.say("what nobody receives")
			s.hear("hello")
			close(heard)
			_, err := io.ReadAll(s)
			ended <- err
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		eventually(ctx, t, "something has arrived", func() bool { return queued(t, c.Socket().FD(), unix.SIOCINQ) > 0 })
		send(ctx, t, c, "hello")
		receive(ctx, t, heard)
		check(t, c.Close())
		if err := receive(ctx, t, ended); err != nil {
			t.Errorf("the server has read %v", err)
		}
	})
}

// Small messages that are still queued when Close is called are delivered, too.
func TestCloseDeliversWhatIsQueued(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		arrived := make(chan digest, 1)
		address := serve(t, func(s *script) {
			open(s)
			arrived <- digestOf(s)
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		for range 3 {
			send(ctx, t, c, "QUIT\r\n")
		}
		check(t, c.Close())
		if got := receive(ctx, t, arrived); got.size != 18 || got.err != nil {
			t.Errorf("%d bytes have arrived, %v", got.size, got.err)
		}
	})
}

// With a negative Linger, Close delivers nothing that the kernel doesn't deliver by itself.
func TestLinger(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, (*script).idle)
		for _, linger := range []time.Duration{-1, soon} {
			c := connect(ctx, t, client.Config{Linger: linger, WriteTimeout: soon}, "tcp", address)
			_, err := c.Send(ctx, make([]byte, 64<<20))
			wantError(t, "Send", err, runtime.ErrTimeout)
			check(t, c.Close()) // that it doesn't take up Run for long is what would fail
		}
	})
}

func TestAbortResets(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		heard, ended := make(chan struct{}), make(chan error, 1)
		address := serve(t, func(s *script) {
			open(s)
			s.hear("hello")
			close(heard)
			_, err := io.ReadAll(s)
			ended <- err
		})
		c := connect(ctx, t, client.Config{TLS: trusting()}, network, address)
		send(ctx, t, c, "hello")
		receive(ctx, t, heard)
		check(t, c.Abort())
		wantError(t, "the server", receive(ctx, t, ended), syscall.ECONNRESET)
	})
}

// A server that closes is seen by Recv, and what it sent before comes first.
func TestServerCloses(t *testing.T) {
	transports(t, func(ctx context.Context, t *testing.T, network string, open func(s *script)) {
		address := serve(t, func(s *script) {
			open(s)
			s.say("221 bye\r\n")
			s.ok(s.Conn.Close())
		})
		c := connect(ctx, t, client.Config{TLS: trusting(), EOF: "\r\n"}, network, address)
		recv(ctx, t, c, "221 bye\r\n")
		for range 2 {
			if _, err := c.Recv(ctx); err != io.EOF {
				t.Errorf("Recv: %v", err)
			}
		}
		eventually(ctx, t, "the socket notices", func() bool { return !c.Socket().Alive() })
		if !c.Connected() {
			t.Error("the client is not connected any more")
		}
		check(t, c.Close())
	})
}
