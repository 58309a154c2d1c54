//go:build linux

package client_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// framed returns a packet with its length in front.
func framed(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

var (
	lines   = client.Config{EOF: "\r\n"}
	lengths = client.Config{Length: packet.LengthField{Type: 'N', BodyOffset: 4}}
)

// framings are the ways to frame the same words. wrap makes a packet of a word, and got is what
// Recv makes of that.
var framings = []struct {
	name      string
	config    client.Config
	wrap, got func(word string) string
}{
	{"EOF", lines, line, line},
	{"Length", lengths, framed, framed},
	{"Func", client.Config{Length: packet.LengthField{Func: lengthOf}}, framed, framed},
	{"Split", client.Config{Split: bufio.ScanLines, MaxPacket: client.DefaultMaxPacket}, line, func(word string) string { return word }},
}

func line(word string) string { return word + "\r\n" }

func lengthOf(header []byte) (int, error) {
	if len(header) < 4 {
		return 0, nil
	}
	return 4 + int(binary.BigEndian.Uint32(header)), nil
}

// words are packets of several sizes, some of which are larger than the buffer that a client begins
// with.
var words = []string{"a", "", "hello", strings.Repeat("x", 5000), strings.Repeat("y", 64<<10), strings.Repeat("z", 200_000), "end"}

func TestFraming(t *testing.T) {
	for _, f := range framings {
		for _, pieces := range []int{0, 1, 1400} {
			t.Run(fmt.Sprintf("%s in pieces of %d", f.name, pieces), func(t *testing.T) {
				both(t, func(ctx context.Context, t *testing.T) {
					address := serve(t, func(s *script) {
						var stream strings.Builder
						for _, word := range words {
							if pieces != 1 || len(word) < 100 {
								stream.WriteString(f.wrap(word))
							}
						}
						feed(s, stream.String(), pieces)
					})
					c := connect(ctx, t, f.config, "tcp", address)
					for _, word := range words {
						if pieces != 1 || len(word) < 100 {
							recv(ctx, t, c, f.got(word))
						}
					}
					for range 2 {
						p, err := c.Recv(ctx)
						if err != io.EOF {
							t.Errorf("at the end: %q, %v", p, err)
						}
					}
				})
			})
		}
	}
}

// feed says text in pieces of so many bytes, 0 for all at once.
func feed(s *script, text string, size int) {
	if size == 0 {
		size = len(text)
	}
	for len(text) > 0 {
		n := min(size, len(text))
		s.say(text[:n])
		text = text[n:]
	}
}

// Without framing a client receives what there is.
func TestNoFraming(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := connect(ctx, t, client.Config{}, "tcp", serve(t, func(s *script) {
			s.say("one")
			s.hear("more")
			s.say("two")
		}))
		recv(ctx, t, c, "one")
		send(ctx, t, c, "more")
		recv(ctx, t, c, "two")
		if _, err := c.Recv(ctx); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

// The end of the stream in the middle of a packet is not its end. Only a SplitFunc may make a
// packet of the rest.
func TestEndInPacket(t *testing.T) {
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				c := connect(ctx, t, f.config, "tcp", serve(t, func(s *script) {
					s.say(f.wrap("whole"))
					s.say(f.wrap("torn apart")[:6])
				}))
				recv(ctx, t, c, f.got("whole"))
				if f.name == "Split" {
					recv(ctx, t, c, "torn a")
					return
				}
				for range 2 {
					p, err := c.Recv(ctx)
					wantError(t, "Recv", err, io.ErrUnexpectedEOF)
					if p != nil || err == io.EOF {
						t.Errorf("received %q, %v", p, err)
					}
				}
			})
		})
	}
}

// A Recv that times out, or is cancelled, has lost nothing. The server goes on only afterwards, at
// each byte of the packet.
func TestTimeoutLosesNothing(t *testing.T) {
	for _, f := range framings[:3] {
		t.Run(f.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				goOn := make(chan struct{})
				stream := f.wrap("first") + f.wrap("second")
				address := serve(t, func(s *script) {
					for i := range len(stream) {
						s.say(stream[i : i+1])
						select {
						case <-goOn:
						case <-s.over:
							return
						}
					}
				})
				config := f.config
				config.ReadTimeout = time.Millisecond
				c := connect(ctx, t, config, "tcp", address)
				var packets []string
				for range len(stream) {
					// Not before this byte has arrived, or it would be the next Recv that takes it.
					unread := c.Socket().Buffered()
					cancelable, cancel := context.WithCancel(ctx)
					for p, err := c.Recv(cancelable); ; p, err = c.Recv(cancelable) {
						if err == nil {
							packets = append(packets, string(p))
							break
						}
						if !errors.Is(err, runtime.ErrTimeout) && !errors.Is(err, context.Canceled) {
							t.Fatal(err)
						}
						if c.Socket().Buffered() > unread {
							break
						}
					}
					cancel()
					_, err := c.Recv(cancelable)
					wantError(t, "Recv with a cancelled context", err, context.Canceled)
					select {
					case goOn <- struct{}{}:
					case <-time.After(patience):
						t.Fatal("the server is gone")
					}
				}
				if len(packets) != 2 || packets[0] != f.got("first") || packets[1] != f.got("second") {
					t.Errorf("received %q", packets)
				}
			})
		})
	}
}

func TestReadTimeout(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { s.rest() })
		c := connect(ctx, t, client.Config{EOF: "\n", ReadTimeout: soon}, "tcp", address)
		begin := time.Now()
		_, err := c.Recv(ctx)
		wantError(t, "Recv", err, runtime.ErrTimeout)
		if took := time.Since(begin); took < soon || socket.Code(err) != int(syscall.ETIMEDOUT) || !strings.Contains(err.Error(), address) {
			t.Errorf("after %v: code %d, error %v", took, socket.Code(err), err)
		}
		if !c.Connected() {
			t.Error("the connection is closed")
		}
	})
}

// A packet's time runs from the beginning of Recv, however slowly its bytes drop in.
func TestReadTimeoutIsForThePacket(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		address := serve(t, func(s *script) { drip(s.raw, []byte(strings.Repeat("x", 5000))) })
		c := connect(ctx, t, client.Config{EOF: "\n", ReadTimeout: 4 * drop}, "tcp", address)
		_, err := c.Recv(ctx)
		wantError(t, "Recv", err, runtime.ErrTimeout)
	})
}

// drop is the time between two bytes of drip.
const drop = 10 * time.Millisecond

// drip writes a byte every ten milliseconds, until that fails.
func drip(w io.Writer, data []byte) (n int, err error) {
	tick := time.NewTicker(drop)
	defer tick.Stop()
	for n = range data {
		if _, err := w.Write(data[n : n+1]); err != nil {
			return n, err
		}
		<-tick.C
	}
	return len(data), nil
}

// A packet of MaxPacket bytes passes, and one of a byte more is an error from there on.
func TestLimit(t *testing.T) {
	const limit = 100_000
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				config := f.config
				config.MaxPacket = limit
				fits := strings.Repeat("x", limit-len(f.wrap("")))
				c := connect(ctx, t, config, "tcp", serve(t, func(s *script) {
					s.say(f.wrap(fits) + f.wrap(fits+"x") + f.wrap("small"))
					s.rest()
				}))
				recv(ctx, t, c, f.got(fits))
				for range 3 {
					_, err := c.Recv(ctx)
					wantError(t, "Recv", err, packet.ErrPacketTooLarge)
				}
				if n := c.Socket().Buffered(); n > 2*limit {
					t.Errorf("%d bytes are buffered", n)
				}
				wantError(t, "EnableSSL", c.EnableSSL(ctx), socket.ErrPlaintextPending)
			})
		})
	}
}

// A length beyond the limit is refused as soon as it is known.
func TestLengthBeyondLimit(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		c := connect(ctx, t, lengths, "tcp", serve(t, func(s *script) {
			s.say("\xff\xff\xff\xff")
			s.rest()
		}))
		_, err := c.Recv(ctx)
		wantError(t, "Recv", err, packet.ErrPacketTooLarge)
	})
}

func TestMalformedLength(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		refuse := errors.New("wrong magic")
		config := client.Config{Length: packet.LengthField{Func: func([]byte) (int, error) { return 0, refuse }}}
		c := connect(ctx, t, config, "tcp", serve(t, func(s *script) { s.say("what?") }))
		for range 2 {
			_, err := c.Recv(ctx)
			wantError(t, "Recv", err, packet.ErrMalformed)
			wantError(t, "Recv", err, refuse)
		}
	})
}

// Two megabytes in 1,500 pieces, which is the default limit.
func TestLargePacketInPieces(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", (client.DefaultMaxPacket-8)/16)
	for _, f := range framings[:2] {
		t.Run(f.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				c := connect(ctx, t, f.config, "tcp", serve(t, func(s *script) {
					for range 2 {
						feed(s, f.wrap(large), len(large)/1500)
					}
				}))
				for range 2 {
					p, err := c.Recv(ctx)
					if err != nil || string(p) != f.got(large) {
						t.Fatalf("%d bytes, %v", len(p), err)
					}
				}
			})
		})
	}
}

// A packet stays as it is until the next Recv, though the buffers of other connections come and go,
// with TLS and without.
func TestPacketStaysValid(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				address := serve(t, func(s *script) {
					if network == "tls" {
						s.secure(serverTLS())
					}
					s.say(line("precious") + line("next"))
					s.rest()
				})
				noise := serve(t, func(s *script) {
					if network == "tls" {
						s.secure(serverTLS())
					}
					for range 10 {
						s.hear("?")
						s.say(strings.Repeat("\xff", 20_000))
					}
					s.rest()
				})
				config := lines
				config.TLS = trusting()
				c := connect(ctx, t, config, network, address)
				kept, err := c.Recv(ctx)
				check(t, err)
				var others []func() error
				for range 4 {
					others = append(others, start(ctx, t, func(ctx context.Context) error {
						config := client.Config{TLS: trusting()}
						for range 5 {
							other := client.New(config)
							if err := other.Connect(ctx, network, noise); err != nil {
								return err
							}
							for range 10 {
								if _, err := other.Send(ctx, []byte("?")); err != nil {
									return err
								}
								for n := 0; n < 20_000; {
									p, err := other.Recv(ctx)
									if err != nil {
										return err
									}
									n += len(p)
								}
							}
							other.Abort()
						}
						return nil
					}))
				}
				for _, wait := range others {
					check(t, wait())
				}
				if string(kept) != line("precious") {
					t.Errorf("the packet has become %q", kept)
				}
				recv(ctx, t, c, line("next"))
			})
		})
	}
}

// Who appends to a packet doesn't write over the next one.
func TestPacketCapacity(t *testing.T) {
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				c := connect(ctx, t, f.config, "tcp", serve(t, func(s *script) { s.say(f.wrap("one") + f.wrap("two")) }))
				p, err := c.Recv(ctx)
				check(t, err)
				_ = append(p, bytes.Repeat([]byte("!"), 20)...)
				recv(ctx, t, c, f.got("two"))
			})
		})
	}
}

func TestPeek(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		goOn := make(chan struct{})
		address := serve(t, func(s *script) {
			<-goOn
			s.say("one\r\ntwo")
		})
		c := connect(ctx, t, lines, "tcp", address)
		_, err := c.Peek(make([]byte, 1))
		wantError(t, "Peek before anything has come", err, socket.ErrWouldBlock)
		close(goOn)
		p := make([]byte, 4)
		eventually(ctx, t, "Peek sees something", func() bool {
			n, err := c.Peek(p)
			return err == nil && string(p[:n]) == "one\r"
		})
		recv(ctx, t, c, "one\r\n")
		if n, err := c.Peek(p); err != nil || string(p[:n]) != "two" {
			t.Errorf("Peek: %q, %v", p[:n], err)
		}
		_, err = c.Recv(ctx)
		wantError(t, "Recv", err, io.ErrUnexpectedEOF)
	})
}
