//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// lines is a framer for lines of up to 1000 bytes.
func lines(t testing.TB) socket.Framer {
	f, err := packet.NewEOF("\n", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// collect takes all packets, and returns them with the error that ends the sequence.
func collect(ctx context.Context, s *socket.Socket) (all []string, err error) {
	for pkt, err := range s.Packets(ctx) {
		if err != nil {
			return all, err
		}
		all = append(all, string(pkt))
	}
	return all, nil
}

// Packets come in order and whole, however they arrive, and the end of the stream ends them.
func TestPacketsOfAStream(t *testing.T) {
	var want []string
	for i := range 2000 {
		want = append(want, fmt.Sprintf("packet %d%s\n", i, bytes.Repeat([]byte("."), i%50)))
	}
	var sent []byte
	for _, line := range want {
		sent = append(sent, line...)
	}
	for _, c := range []struct {
		name   string
		secure bool
		part   int // bytes at a time
		tail   string
		end    error
	}{
		{"at once", false, len(sent), "", nil},
		{"in pieces", false, 777, "", nil},
		{"byte by byte", false, 1, "", nil},
		{"TLS", true, 5000, "", nil},
		{"half a packet at the end", false, len(sent), "half", io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, "tcp", c.secure)
				s.SetProtocol(lines(t))
				peers.Go(func() {
					for part := range slices.Chunk(append(slices.Clone(sent), c.tail...), c.part) {
						if _, err := peer.Write(part); err != nil {
							t.Error(err)
						}
					}
					peer.Close()
				})
				got, err := collect(ctx, s)
				if err != c.end && !bytes.Contains([]byte(fmt.Sprint(err)), []byte(fmt.Sprint(c.end))) {
					t.Errorf("ended by %v, want %v", err, c.end)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d packets, want %d", len(got), len(want))
				}
				s.Close()
			})
		})
	}
}

// What the loop hasn't come to is there afterwards, for whatever receives then.
func TestPacketsLeaveTheRest(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := dialed(ctx, t, "tcp")
		defer peer.Close()
		s.SetProtocol(lines(t))
		var sent []byte
		for i := range 200 {
			sent = fmt.Appendf(sent, "line %d\n", i)
		}
		if _, err := peer.Write(sent); err != nil {
			t.Fatal(err)
		}
		next := 0
		for round := range 3 {
			for pkt, err := range s.Packets(ctx) {
				if want := fmt.Sprintf("line %d\n", next); string(pkt) != want || err != nil {
					t.Fatalf("%q, %v; want %q", pkt, err, want)
				}
				_, err = s.Recv(ctx, make([]byte, 1))
				wantError(t, "Recv within the loop", err, socket.ErrBusy)
				if next++; next%20 == 0 {
					break
				}
			}
			if pkt, err := s.RecvPacket(ctx); string(pkt) != fmt.Sprintf("line %d\n", next) || err != nil {
				t.Fatalf("round %d: %q, %v", round, pkt, err)
			}
			next++
		}
		if line, err := s.RecvLine(ctx, 100); string(line) != fmt.Sprintf("line %d\n", next) || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		s.Close()
	})
}

// Each way in which waiting for a packet ends is the last of the sequence.
func TestPacketsEndWithAnError(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(ctx context.Context, s *socket.Socket, cancel context.CancelFunc)
		want error
	}{
		{"time-out", func(context.Context, *socket.Socket, context.CancelFunc) {}, runtime.ErrTimeout},
		{"context", func(_ context.Context, _ *socket.Socket, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"Close", func(_ context.Context, s *socket.Socket, _ context.CancelFunc) { s.Close() }, net.ErrClosed},
		{"Cancel", func(_ context.Context, s *socket.Socket, _ context.CancelFunc) { s.Cancel(socket.ReadEvent) }, socket.ErrCanceled},
	} {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			s, peer := dialed(ctx, t, "tcp")
			defer peer.Close()
			s.SetProtocol(lines(t))
			s.SetTimeouts(socket.Timeouts{Read: patience})
			if c.want == runtime.ErrTimeout {
				s.SetTimeouts(socket.Timeouts{Read: soon})
			}
			io.WriteString(peer, "one\ntwo\n")
			with, cancel := context.WithCancel(ctx)
			defer cancel()
			var got []string
			reader := start(ctx, func(context.Context) {
				var err error
				got, err = collect(with, s)
				wantError(t, c.name, err, c.want)
			})
			until(ctx, func() bool { return unread(s) == 0 })
			runtime.Yield(ctx)
			c.end(ctx, s, cancel)
			reader.Join(ctx)
			if !slices.Equal(got, []string{"one\n", "two\n"}) {
				t.Errorf("%s: got %q", c.name, got)
			}
			s.Close()
		}, runtime.WithLoops(1))
	}
}

// A program that closes the socket within the loop gets no packet of it any more.
func TestCloseWithinPackets(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer := dialed(ctx, t, "tcp")
		defer peer.Close()
		s.SetProtocol(lines(t))
		io.WriteString(peer, "one\ntwo\n")
		n := 0
		for _, err := range s.Packets(ctx) {
			if n++; n == 1 {
				s.Close()
			} else {
				wantError(t, "after Close", err, net.ErrClosed)
			}
		}
		if n != 2 {
			t.Errorf("%d rounds", n)
		}
	})
}

// A peer that always has packets doesn't keep the loop from others.
// The time-out is for a packet, however many bytes of it come now and then, and whatever the framer
// skips of them.
func TestPacketsTimeOutAsAWhole(t *testing.T) {
	skipping, err := packet.NewSplit(func(data []byte, _ bool) (int, []byte, error) {
		return len(data), nil, nil
	}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for name, framer := range map[string]socket.Framer{"half": lines(t), "skipped": skipping} {
		t.Run(name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				s, peer := connected(ctx, t, "tcp")
				s.SetProtocol(framer)
				s.SetTimeouts(socket.Timeouts{Read: 200 * time.Millisecond})
				over := false
				dribble := start(ctx, func(ctx context.Context) {
					for n := 0; !over && n < 400; n++ {
						peer.SendAll(ctx, []byte("."))
						runtime.Sleep(ctx, 5*time.Millisecond)
					}
					peer.Close()
				})
				_, err := collect(ctx, s)
				over = true
				wantError(t, "Packets", err, runtime.ErrTimeout)
				dribble.Join(ctx)
				s.Abort()
			}, runtime.WithLoops(1))
		})
	}
}

func TestPacketsLetOthersRun(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer := dialed(ctx, t, "tcp")
		s.SetProtocol(lines(t))
		peers.Go(func() {
			flood := bytes.Repeat([]byte("\n"), 64<<10)
			for err := error(nil); err == nil; _, err = peer.Write(flood) {
			}
			peer.Close()
		})
		ticks := 0
		ticker := start(ctx, func(ctx context.Context) {
			for ticks < 5 && runtime.Sleep(ctx, time.Millisecond) == nil {
				ticks++
			}
		})
		for _, err := range s.Packets(ctx) {
			if err != nil {
				t.Error(err)
			}
			if ticks == 5 {
				break // else the test never ends
			}
		}
		ticker.Join(ctx)
		s.Abort()
	}, runtime.WithLoops(1))
}
