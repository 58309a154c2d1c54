//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// BenchmarkCompactTLS is what a busy connection costs that has become compact, next to one that
// stays with crypto/tls. The other end is crypto/tls; what is sent is only counted there. The CPU
// time is that of both ends.
func BenchmarkCompactTLS(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		peer func(conn *tls.Conn, buf []byte)
		step func(ctx context.Context, s *socket.Socket, buf []byte) error
	}{
		{"round trip of 1 KiB", 1 << 10, func(conn *tls.Conn, buf []byte) {
			for {
				if _, err := io.ReadFull(conn, buf); err != nil {
					return
				}
				conn.Write(buf)
			}
		}, func(ctx context.Context, s *socket.Socket, buf []byte) error {
			if _, err := s.SendAll(ctx, buf); err != nil {
				return err
			}
			_, err := s.RecvAll(ctx, buf)
			return err
		}},
		{"send 16 KiB", 16 << 10, func(conn *tls.Conn, _ []byte) { io.Copy(io.Discard, conn.NetConn()) },
			func(ctx context.Context, s *socket.Socket, buf []byte) error {
				_, err := s.SendAll(ctx, buf)
				return err
			}},
		{"send 16 packets of 100 B in a turn", 1600,
			func(conn *tls.Conn, _ []byte) { io.Copy(io.Discard, conn.NetConn()) },
			func(ctx context.Context, s *socket.Socket, buf []byte) error {
				for p := range slices.Chunk(buf, 100) {
					if _, err := s.SendSoon(ctx, p); err != nil {
						return err
					}
				}
				return s.Flush(ctx)
			}},
		{"receive 16 KiB", 16 << 10, func(conn *tls.Conn, buf []byte) {
			for {
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}, func(ctx context.Context, s *socket.Socket, buf []byte) error {
			_, err := s.RecvAll(ctx, buf)
			return err
		}},
	} {
		for _, how := range []string{"crypto-tls", "compact", "not quiet yet"} {
			b.Run(c.name+"/"+how, func(b *testing.B) {
				err := runtime.Run(func(ctx context.Context) error {
					s, peer, config := withCryptoTLS(ctx, b, "tcp", "client", tls.VersionTLS13)
					switch how {
					case "compact":
						config = mayCompact(s, config)
					case "not quiet yet":
						config = mayCompact(s, config)
						timeouts := s.Timeouts()
						timeouts.CompactTLS.After = 1 << 40
						s.SetTimeouts(timeouts)
					}
					before := compactCount()
					start := make(chan struct{})
					var peers sync.WaitGroup
					peers.Go(func() {
						if peer.Handshake() == nil {
							<-start
							c.peer(peer, make([]byte, c.size))
						}
						peer.NetConn().(*net.TCPConn).SetLinger(0)
						peer.NetConn().Close()
					})
					defer await(ctx, peers.Wait)
					defer s.Abort()
					if err := s.SSLHandshake(ctx, config); err != nil {
						return err
					}
					for how == "compact" && compactCount() == before {
						runtime.Yield(ctx)
					}
					close(start)
					buf := make([]byte, c.size)
					if err := c.step(ctx, s, buf); err != nil {
						return err
					}
					b.SetBytes(int64(c.size))
					b.ReportAllocs()
					used := childtest.CPUTime()
					for b.Loop() {
						if err := c.step(ctx, s, buf); err != nil {
							return err
						}
					}
					used = childtest.CPUTime() - used
					b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
