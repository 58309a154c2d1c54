//go:build linux

package socket_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// stream is a Socket that receives and the Socket that sends to it.
type stream struct {
	*socket.Socket
	peer *socket.Socket
	ctx  context.Context
	t    testing.TB
}

// overStreams runs a test in plaintext and over TLS.
func overStreams(t *testing.T, test func(t *testing.T, s stream)) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
				client, server := connected(ctx, t, "pair")
				defer client.Close()
				defer server.Close()
				if secure {
					handshakes(ctx, t, client, server, 0)
				}
				test(t, stream{client, server, ctx, t})
			})
		})
	}
}

func (s stream) send(p string) {
	s.t.Helper()
	if _, err := s.peer.SendAll(s.ctx, []byte(p)); err != nil {
		s.t.Error(err)
	}
}

// end ends the stream in an orderly way.
func (s stream) end() {
	s.t.Helper()
	if err := s.peer.Shutdown(s.ctx, socket.ShutdownWrite); err != nil {
		s.t.Error(err)
	}
}

// want checks the result of an operation that receives.
func (s stream) want(got []byte, err error, want string, wantErr error) {
	s.t.Helper()
	if string(got) != want || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		s.t.Errorf("got %q, %v; want %q, %v", got, err, want, wantErr)
	}
}

func (s stream) recvAll(n int) ([]byte, error) {
	p := make([]byte, n)
	n, err := s.RecvAll(s.ctx, p)
	return p[:n], err
}

func (s stream) recv(n int) ([]byte, error) {
	p := make([]byte, n)
	n, err := s.Recv(s.ctx, p)
	return p[:n], err
}

func (s stream) line(max int) ([]byte, error) { return s.RecvLine(s.ctx, max) }
func (s stream) packet() ([]byte, error)      { return s.RecvPacket(s.ctx) }

func (s stream) peek(n int) ([]byte, error) {
	p := make([]byte, n)
	n, err := s.Peek(p)
	return p[:n], err
}

// soon sets a short time-out for reading.
func (s stream) soon() {
	s.SetTimeouts(socket.Timeouts{Read: time.Millisecond})
}

// The helpers return two results, to be checked by want.
func check(s stream, want string, wantErr error) func(got []byte, err error) {
	s.t.Helper()
	return func(got []byte, err error) { s.t.Helper(); s.want(got, err, want, wantErr) }
}

func TestRecvAllTellsWhereTheStreamEnded(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("hello")
		check(s, "hell", nil)(s.recvAll(4))
		s.send(" world")
		s.end()
		check(s, "o world", io.ErrUnexpectedEOF)(s.recvAll(100))
		check(s, "", io.EOF)(s.recvAll(100))
		check(s, "", nil)(s.recvAll(0))
	})
}

func TestRecvAllReturnsWhatCameBeforeTheTimeout(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.soon()
		check(s, "", runtime.ErrTimeout)(s.recvAll(10))
		s.send("part")
		check(s, "part", runtime.ErrTimeout)(s.recvAll(10))
		s.send("rest")
		check(s, "rest", nil)(s.recvAll(4))
	})
}

// Time-outs are for whole operations: bytes that trickle in don't extend them.
func TestRecvTimeoutIsNotExtendedByBytes(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.SetTimeouts(socket.Timeouts{Read: 20 * time.Millisecond})
		trickling, err := runtime.Go(s.ctx, func(ctx context.Context) {
			for range 1000 {
				if _, err := s.peer.SendAll(ctx, []byte("x")); err != nil || runtime.Sleep(ctx, time.Millisecond) != nil {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.RecvAll(s.ctx, make([]byte, 1000))
		if !errors.Is(err, runtime.ErrTimeout) || n >= 1000 {
			t.Error(n, err)
		}
		if _, err := s.RecvLine(s.ctx, 2000); !errors.Is(err, runtime.ErrTimeout) {
			t.Error(err)
		}
		framer, _ := packet.NewEOF("\n", 2000)
		s.SetProtocol(framer)
		if _, err := s.RecvPacket(s.ctx); !errors.Is(err, runtime.ErrTimeout) {
			t.Error(err)
		}
		trickling.Cancel()
	})
}

func TestRecvLine(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("one\ntwo\r\n\n\r\n12345678\nrest")
		check(s, "one\n", nil)(s.line(100))
		check(s, "two\r\n", nil)(s.line(100))
		check(s, "\n", nil)(s.line(100))
		check(s, "\r\n", nil)(s.line(100))
		check(s, "", socket.ErrLineTooLong)(s.line(8))
		check(s, "", socket.ErrLineTooLong)(s.line(1))
		check(s, "", socket.ErrLineTooLong)(s.line(0))
		check(s, "", socket.ErrLineTooLong)(s.line(-1))
		check(s, "12345678\n", nil)(s.line(9)) // exactly the limit; and nothing of it was lost
		s.soon()
		check(s, "", runtime.ErrTimeout)(s.line(100))
		check(s, "", socket.ErrLineTooLong)(s.line(4))
		s.end()
		check(s, "rest", io.ErrUnexpectedEOF)(s.line(100))
		check(s, "", io.EOF)(s.line(100))
		check(s, "", io.EOF)(s.recv(100))
	})
}

func TestRecvLineIsReadOnUntilTheLimit(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		long := bytes.Repeat([]byte("x"), 200_000)
		sender, err := runtime.Go(s.ctx, func(ctx context.Context) { s.send(string(long) + "\n") })
		if err != nil {
			t.Fatal(err)
		}
		check(s, "", socket.ErrLineTooLong)(s.line(len(long)))
		line, err := s.line(len(long) + 1)
		if err != nil {
			t.Error(err)
		}
		mustBe(t, line, append(long, '\n'))
		sender.Join(s.ctx)
	})
}

func TestRecvLineOfSingleBytes(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		s, peer := dialed(ctx, t, "unix")
		defer s.Close()
		source, sink := net.Pipe()
		peers.Go(func() { trickle(peer, source, s); peer.Close() })
		line := append(bytes.Repeat([]byte("x"), 4999), '\n')
		peers.Go(func() { sink.Write(line); sink.Close() })
		got, err := s.RecvLine(ctx, len(line))
		if err != nil {
			t.Error(err)
		}
		mustBe(t, got, line)
	})
}

func TestRecvPacketWithoutProtocol(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("what there is")
		check(s, "what there is", nil)(s.packet())
		s.soon()
		check(s, "", runtime.ErrTimeout)(s.packet())
		s.send("more")
		s.end()
		check(s, "more", nil)(s.packet())
		check(s, "", io.EOF)(s.packet())
		check(s, "", io.EOF)(s.packet())
	})
}

func TestRecvPacketOfEachProtocol(t *testing.T) {
	length := func(p string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(p)+4))) + p }
	newLength := func() (packet.Framer, error) { return packet.NewLength(packet.LengthField{Type: 'N'}, 1000) }
	for _, c := range []struct {
		name      string
		newFramer func() (packet.Framer, error)
		packets   []string
		cut       string // what the stream ends with
		cutErr    error
		cutPacket string
	}{
		{"EOF", func() (packet.Framer, error) { return packet.NewEOF("\r\n", 1000) },
			[]string{"hello\r\n", "\r\n", "a\rb\nc\r\r\n"}, "cut\r", io.ErrUnexpectedEOF, ""},
		{"length", newLength, []string{length("hello"), length(""), length(string(pattern(60)))}, length("cut")[:6], io.ErrUnexpectedEOF, ""},
		{"split", func() (packet.Framer, error) { return packet.NewSplit(bufio.ScanWords, 1000) },
			[]string{"one", "two", "three"}, "last", nil, "last"},
	} {
		t.Run(c.name, func(t *testing.T) {
			overStreams(t, func(t *testing.T, s stream) {
				var all string
				for _, p := range c.packets {
					all += p
					if c.name == "split" {
						all += "  "
					}
				}
				all += c.cut
				framer, err := c.newFramer()
				if err != nil {
					t.Fatal(err)
				}
				if err := s.SetProtocol(framer); err != nil {
					t.Fatal(err)
				}
				// All at once, then byte by byte with a time-out after each.
				s.send(all[:len(all)-len(c.cut)])
				for _, p := range c.packets {
					check(s, p, nil)(s.packet())
				}
				s.soon()
				next := 0
				for i := range len(all) {
					s.send(all[i : i+1])
					for {
						pkt, err := s.packet()
						if errors.Is(err, runtime.ErrTimeout) {
							break
						}
						if err != nil || next == len(c.packets) || string(pkt) != c.packets[next] {
							t.Fatalf("byte %d: packet %d: %q, %v", i, next, pkt, err)
						}
						next++
					}
				}
				if next != len(c.packets) {
					t.Errorf("%d packets of single bytes, want %d", next, len(c.packets))
				}
				s.end()
				check(s, c.cutPacket, c.cutErr)(s.packet())
				if c.cutErr == nil {
					check(s, "", io.EOF)(s.packet())
				}
			})
		})
	}
}

func TestSetProtocolInMidstreamKeepsWhatIsUnread(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		lines, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(lines)
		s.send("line\n\x00\x00\x00\x05binary tail")
		check(s, "line\n", nil)(s.packet())
		field, _ := packet.NewLength(packet.LengthField{Type: 'N', BodyOffset: 4}, 100)
		if err := s.SetProtocol(field); err != nil {
			t.Fatal(err)
		}
		check(s, "\x00\x00\x00\x05binar", nil)(s.packet())
		check(s, "y ", nil)(s.recv(2))
		if err := s.SetProtocol(nil); err != nil {
			t.Fatal(err)
		}
		check(s, "tail", nil)(s.packet())
	})
}

func TestSetProtocolIsBusyWhileSomebodyReceives(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		reader, err := runtime.Go(s.ctx, func(ctx context.Context) { check(s, "now", nil)(s.packet()) })
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetProtocol(nil); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		s.send("now")
		reader.Join(s.ctx)
	})
}

func TestRecvPacketErrorsAreFinal(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		framer, _ := packet.NewEOF("\n", 8)
		s.SetProtocol(framer)
		s.send("too long for it")
		for range 2 {
			check(s, "", packet.ErrPacketTooLarge)(s.packet())
		}
		check(s, "too long for it", nil)(s.recv(100)) // whoever wants it nevertheless
	})
}

func TestPeekTakesNothing(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		check(s, "", socket.ErrWouldBlock)(s.peek(10))
		check(s, "", nil)(s.peek(0))
		s.send("hello\nworld\n")
		check(s, "hel", nil)(s.peek(3))
		check(s, "hello\nworld\n", nil)(s.peek(100))
		if n := s.Buffered(); n != 12 {
			t.Errorf("Buffered: %d", n)
		}
		check(s, "he", nil)(s.recv(2))
		check(s, "llo\n", nil)(s.line(10))
		check(s, "world\n", nil)(s.peek(10))
		s.send("!")
		check(s, "world\n", nil)(s.peek(10)) // doesn't read on while there is something
		check(s, "world\n!", nil)(s.recvAll(7))
		if n := s.Buffered(); n != 0 {
			t.Errorf("Buffered: %d", n)
		}
		check(s, "", socket.ErrWouldBlock)(s.peek(10))
		s.send("bye")
		s.end()
		check(s, "bye", nil)(s.peek(10))
		check(s, "bye", nil)(s.recv(10))
		check(s, "", io.EOF)(s.peek(10))
		check(s, "", io.EOF)(s.peek(10))
		check(s, "", io.EOF)(s.recv(10))
	})
}

// A packet stays valid while one peeks behind it, whatever has arrived, and whatever other sockets
// do with the loop's buffers meanwhile.
func TestAPacketIsValidAfterPeek(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		lines, _ := packet.NewEOF("\n", 100)
		s.SetProtocol(lines)
		other, feed := connected(s.ctx, t, "pair")
		defer other.Close()
		defer feed.Close()
		disturb := func() {
			feed.SendAll(s.ctx, bytes.Repeat([]byte("X"), 100))
			if _, err := other.RecvPacket(s.ctx); err != nil {
				t.Error(err)
			}
		}
		for _, behind := range []string{"", "half"} {
			s.send("hello\n")
			pkt, err := s.RecvPacket(s.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if behind != "" {
				s.send(behind)
			}
			until(s.ctx, func() bool {
				disturb()
				_, err := s.Peek(make([]byte, 100))
				return behind == "" || err == nil
			})
			disturb()
			mustBe(t, pkt, []byte("hello\n"))
		}
		s.send("-whole\n")
		check(s, "half-whole\n", nil)(s.packet())
	})
}
