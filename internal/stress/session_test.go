//go:build linux

package stress

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/client"
	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// packets are what sessions send, one after the other and again from the first one on. The file
// holds them all.
var (
	packets = func() (all [100][]byte) {
		for i := range all {
			body := i * 7919 % 3000
			if i%20 == 19 {
				body = 50_000
			}
			p := binary.BigEndian.AppendUint32(nil, uint32(body))
			all[i] = append(p, pattern[i:i+body]...)
		}
		return all
	}()
	packetFile string
	offsets    = func() (all [len(packets) + 1]int64) {
		for i, p := range packets {
			all[i+1] = all[i] + int64(len(p))
		}
		return all
	}()
	framing  = packet.LengthField{Type: 'N', BodyOffset: 4}
	starttls = []byte("\x00\x00\x00\x08STARTTLS")
)

var certified = sync.OnceValues(func() (client, server *tls.Config) {
	ca, err := devca.New("stress")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("stress.test")
	if err != nil {
		panic(err)
	}
	return &tls.Config{ServerName: "stress.test", RootCAs: ca.Pool()},
		&tls.Config{Certificates: []tls.Certificate{cert}}
})

var names atomic.Int64

func address(network string) string {
	if network == "unix" {
		return fmt.Sprintf("@whorl-stress-%d-%d", os.Getpid(), names.Add(1))
	}
	return "127.0.0.1:0"
}

// A house is a server that echoes, in one of the two styles.
type house struct {
	*server.Server
	doors          [][2]string // networks and addresses
	served         *runtime.Coroutine
	opened, closed atomic.Int64
}

// open starts the servers.
func (r *round) open(ctx context.Context) {
	_, secure := certified()
	for _, style := range []server.Port{{Handle: r.handle}, {OnReceive: r.onReceive}} {
		h := &house{}
		style.Length, style.TLS = framing, secure
		style.OnConnect = func(context.Context, *server.Conn) { h.opened.Add(1) }
		style.OnClose = func(context.Context, *server.Conn, error) { h.closed.Add(1) }
		h.Server = server.New(server.Config{Port: style})
		for _, network := range []string{"tcp", "unix", "tls"} {
			l, err := h.Listen(ctx, network, address(network))
			r.check("Listen", err)
			h.doors = append(h.doors, [2]string{network, l.Addr().String()})
		}
		h.served, _ = runtime.Go(ctx, func(ctx context.Context) { h.Serve(ctx) })
		r.houses = append(r.houses, h)
	}
}

// close ends them, in order.
func (r *round) close(ctx context.Context) {
	for _, h := range r.houses {
		r.check("server's Shutdown", h.Shutdown(ctx))
		r.check("Serve's end", h.served.Join(ctx))
	}
}

func (r *round) handle(ctx context.Context, c *server.Conn) {
	for {
		pkt, err := c.Recv(ctx)
		if err != nil {
			return
		}
		secure := bytes.Equal(pkt, starttls)
		if _, err = c.Send(ctx, pkt); err == nil && secure {
			err = c.EnableSSL(ctx)
		}
		if err != nil {
			return
		}
	}
}

func (r *round) onReceive(ctx context.Context, c *server.Conn, pkt []byte) {
	if _, err := c.Send(ctx, pkt); errors.Is(err, socket.ErrQueueFull) {
		r.check("Send", err)
	}
	switch {
	case bytes.Equal(pkt, starttls):
		c.EnableSSLAsync(ctx, nil)
	case len(pkt)%16 == 0:
		c.Pause()
		resume := func(context.Context) { c.Resume() }
		if _, err := event.After(ctx, time.Millisecond, resume); err != nil {
			c.Resume()
		}
	}
}

// holdSessions connects to the servers, one time after the other. What nobody disturbs must not
// fail.
func (r *round) holdSessions(ctx context.Context, rnd *rand.Rand) {
	trust, _ := certified()
	for !r.over(ctx) {
		c := client.New(client.Config{Length: framing, TLS: trust})
		h := r.houses[rnd.IntN(len(r.houses))]
		disturbed := rnd.IntN(3) == 0
		own, cancel := context.WithCancel(ctx)
		if disturbed {
			r.start(ctx, rnd, func(ctx context.Context, rnd *rand.Rand) {
				pause(ctx, rnd, 20*time.Millisecond)
				switch n, s := rnd.IntN(5), c.Socket(); {
				case n == 0:
					c.Close()
				case n == 1:
					c.Abort()
				case n == 2 || s == nil:
					cancel()
				default:
					s.Cancel(socket.ReadEvent)
					s.Cancel(socket.WriteEvent)
				}
			})
		}
		err := r.converse(own, rnd, c, h.doors[rnd.IntN(len(h.doors))])
		if !disturbed && !r.cut.Load() {
			r.check("session", err)
		}
		c.Close()
		cancel()
		r.count.sessions.Add(1)
	}
}

func (r *round) converse(
	ctx context.Context, rnd *rand.Rand, c *client.Client, door [2]string,
) error {
	if err := c.Connect(ctx, door[0], door[1]); err != nil {
		return err
	}
	if door[0] != "tls" && rnd.IntN(3) == 0 {
		if _, err := c.Send(ctx, starttls); err != nil {
			return err
		}
		if pkt, err := c.Recv(ctx); err != nil || !bytes.Equal(pkt, starttls) {
			return fmt.Errorf("answer to STARTTLS: %q, %w", pkt, err)
		}
		if err := c.EnableSSL(ctx); err != nil {
			return err
		}
		r.count.handshakes.Add(1)
	}
	for first := 0; rnd.IntN(6) > 0; {
		n := min(1+rnd.IntN(20), len(packets)-first)
		sent := runtime.NewChannel[error](1)
		r.start(ctx, rnd, func(ctx context.Context, rnd *rand.Rand) {
			sent.Push(context.Background(), sendPackets(ctx, rnd, c, first, n))
		})
		err := receivePackets(ctx, rnd, c, packets[first:first+n])
		sendErr, popErr := sent.Pop(ctx)
		if err = errors.Join(err, sendErr, popErr); err != nil {
			return err
		}
		first = (first + n) % len(packets)
	}
	return nil
}

func sendPackets(ctx context.Context, rnd *rand.Rand, c *client.Client, first, n int) error {
	if rnd.IntN(4) == 0 {
		at, end := offsets[first], offsets[first+n]
		_, err := c.SendFile(ctx, packetFile, at, end-at)
		return err
	}
	for _, p := range packets[first : first+n] {
		if _, err := c.Send(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func receivePackets(ctx context.Context, rnd *rand.Rand, c *client.Client, want [][]byte) error {
	for len(want) > 0 {
		if rnd.IntN(2) == 0 {
			c.Peek(make([]byte, 8))
			pkt, err := c.Recv(ctx)
			if err != nil || !bytes.Equal(pkt, want[0]) {
				return fmt.Errorf("%d bytes in place of %d: %w", len(pkt), len(want[0]), err)
			}
			want = want[1:]
			continue
		}
		for pkt, err := range c.Packets(ctx) {
			if err != nil || !bytes.Equal(pkt, want[0]) {
				return fmt.Errorf("%d bytes in place of %d: %w", len(pkt), len(want[0]), err)
			}
			if want = want[1:]; len(want) == 0 || rnd.IntN(4) == 0 {
				break
			}
		}
	}
	return nil
}
