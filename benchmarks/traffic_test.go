//go:build linux

package benchmarks_test

import (
	"bufio"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/packet"
)

// BenchmarkConnect connects and leaves, 50 at a time. All leave with a reset, so that the machine
// doesn't run out of ports.
func BenchmarkConnect(b *testing.B) {
	const workers = 50
	p := startPeer(b)
	b.Run("whorl", func(b *testing.B) {
		program(b, func(ctx context.Context) error {
			defer measure(b)()
			return coroutines(ctx, workers, func(ctx context.Context, i int) error {
				c := client.New(client.Config{KeepAlive: likeNet})
				for range share(b, i, workers) {
					if err := c.Connect(ctx, "tcp", p.Echo); err != nil {
						return err
					}
					if err := c.Abort(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
	b.Run("net", func(b *testing.B) {
		defer measure(b)()
		goroutines(b, workers, func(i int) error {
			for range share(b, i, workers) {
				conn, err := net.Dial("tcp", p.Echo)
				if err != nil {
					return err
				}
				if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// BenchmarkLengthPackets receives packets of 4 KiB that begin with their length, from one
// connection on which there is always more. With net: into a buffer that is used again, in two
// reads each, as most programs do; and through a bufio.Reader of 64 KiB.
func BenchmarkLengthPackets(b *testing.B) {
	p := startPeer(b)
	b.Run("whorl", func(b *testing.B) {
		program(b, func(ctx context.Context) error {
			c := client.New(client.Config{KeepAlive: likeNet, Length: packet.LengthField{Type: 'N',
				BodyOffset: 4}})
			if err := c.Connect(ctx, "tcp", p.Length); err != nil {
				return err
			}
			defer c.Abort()
			b.SetBytes(lengthSize)
			defer measure(b)()
			for range b.N {
				if packet, err := c.Recv(ctx); err != nil || len(packet) != lengthSize {
					return fmt.Errorf("%d bytes, %w", len(packet), err)
				}
			}
			return nil
		})
	})
	for _, buffered := range []bool{false, true} {
		b.Run(map[bool]string{false: "net", true: "net-bufio"}[buffered], func(b *testing.B) {
			conn, err := net.Dial("tcp", p.Length)
			check(b, err)
			defer conn.Close()
			from := io.Reader(conn)
			if buffered {
				from = bufio.NewReaderSize(conn, room)
			}
			packet := make([]byte, lengthSize)
			b.SetBytes(lengthSize)
			defer measure(b)()
			for range b.N {
				_, err := io.ReadFull(from, packet[:4])
				check(b, err)
				if rest := binary.BigEndian.Uint32(packet); rest != lengthSize-4 {
					b.Fatal(rest)
				}
				_, err = io.ReadFull(from, packet[4:])
				check(b, err)
			}
		})
	}
}

const record = 16 << 10 // bytes that a TLS record holds

// BenchmarkTLSBulk sends and receives as much as it can on one connection, and seals and opens
// records with nothing around it. An operation is 16 KiB.
func BenchmarkTLSBulk(b *testing.B) {
	p := startPeer(b)
	bulk := func(name string, run func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(record)
			run(b)
		})
	}
	// ahead is what was received before it was asked for.
	data, buf, ahead := make([]byte, record), make([]byte, room), 0
	whorl := func(address string,
		loop func(ctx context.Context, c *client.Client) error) func(b *testing.B) {
		return func(b *testing.B) {
			program(b, func(ctx context.Context) error {
				c := client.New(client.Config{TLS: p.config(), KeepAlive: likeNet})
				if err := c.Connect(ctx, "tls", address); err != nil {
					return err
				}
				defer c.Abort()
				ahead = 0
				defer measure(b)()
				for range b.N {
					if err := loop(ctx, c); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	standard := func(address string, step func(conn *tls.Conn) error) func(b *testing.B) {
		return func(b *testing.B) {
			conn, err := tls.Dial("tcp", address, p.config())
			check(b, err)
			defer conn.NetConn().Close()
			defer measure(b)()
			for range b.N {
				check(b, step(conn))
			}
		}
	}
	bulk("send/whorl", whorl(p.Sink, func(ctx context.Context, c *client.Client) error {
		_, err := c.Send(ctx, data)
		return err
	}))
	bulk("send/net", standard(p.Sink, func(conn *tls.Conn) error {
		_, err := conn.Write(data)
		return err
	}))
	bulk("receive/whorl", whorl(p.Source, func(ctx context.Context, c *client.Client) error {
		for ahead -= record; ahead < 0; {
			got, err := c.Recv(ctx)
			if err != nil {
				return err
			}
			ahead += len(got)
		}
		return nil
	}))
	bulk("receive/net", standard(p.Source, func(conn *tls.Conn) error {
		_, err := io.ReadFull(conn, data)
		return err
	}))
	block, err := aes.NewCipher(data[:16])
	check(b, err)
	gcm, err := cipher.NewGCM(block)
	check(b, err)
	nonce, header := make([]byte, gcm.NonceSize()), make([]byte, 5)
	bulk("send/aes-gcm", func(b *testing.B) {
		defer measure(b)()
		for range b.N {
			gcm.Seal(buf[:0], nonce, data, header)
		}
	})
	sealed := gcm.Seal(nil, nonce, data, header)
	bulk("receive/aes-gcm", func(b *testing.B) {
		defer measure(b)()
		for range b.N {
			_, err := gcm.Open(buf[:0], nonce, sealed, header)
			check(b, err)
		}
	})
}
