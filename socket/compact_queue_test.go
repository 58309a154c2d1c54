//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// What is sent in a turn is in plaintext in the queue until the record is sealed that it shares.
// Whatever is done before that, nothing leaves in plaintext, all is delivered that has to be, in
// order, and nobody panics.
func TestCompactQueueIsSealedWhateverFollows(t *testing.T) {
	const secret = "in plaintext! "
	file := filepath.Join(t.TempDir(), "file")
	leaktest.Check(t, os.WriteFile(file, []byte("file"), 0o600))
	more := func(f func(ctx context.Context, s *socket.Socket) error) func(
		context.Context, *testing.T, *socket.Socket, *sealer,
	) {
		return func(ctx context.Context, t *testing.T, s *socket.Socket, _ *sealer) {
			leaktest.Check(t, f(ctx, s))
		}
	}
	for name, c := range map[string]struct {
		follows func(ctx context.Context, t *testing.T, s *socket.Socket, p *sealer)
		behind  string // is delivered behind it
		end     error  // of the connection; nil: it stands
		lost    bool   // or all of it is
	}{
		"nothing": {follows: more(func(ctx context.Context, s *socket.Socket) error { return nil })},
		"Flush":   {follows: more(func(ctx context.Context, s *socket.Socket) error { return s.Flush(ctx) })},
		"SendAll": {follows: more(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.SendAll(ctx, []byte("more"))
			return err
		}), behind: "more"},
		"more than a record": {follows: more(func(ctx context.Context, s *socket.Socket) error {
			for range 5 {
				if _, err := s.SendSoon(ctx, make([]byte, 8<<10)); err != nil {
					return err
				}
			}
			return nil
		}), behind: strings.Repeat("\x00", 40<<10)},
		"WriteVector": {follows: more(func(ctx context.Context, s *socket.Socket) error {
			_, err := s.WriteVectorAll(ctx, [][]byte{[]byte("mo"), []byte("re")})
			return err
		}), behind: "more"},
		"SendFile": {follows: more(func(ctx context.Context, s *socket.Socket) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = s.SendFile(ctx, f, 0, 0)
			return err
		}), behind: "file"},
		"Shutdown": {follows: more(func(ctx context.Context, s *socket.Socket) error {
			return s.Shutdown(ctx, socket.ShutdownWrite)
		}), end: io.EOF},
		"Close": {follows: more(func(_ context.Context, s *socket.Socket) error {
			return s.Close()
		}), end: io.EOF},
		"Abort": {follows: more(func(_ context.Context, s *socket.Socket) error {
			return s.Abort()
		}), end: errAny, lost: true},
		"Abort while somebody receives": {follows: func(
			ctx context.Context, t *testing.T, s *socket.Socket, _ *sealer,
		) {
			waits, _ := runtime.Go(ctx, func(ctx context.Context) { s.Recv(ctx, make([]byte, 1)) })
			leaktest.Check(t, s.Abort())
			waits.Join(ctx)
		}, end: errAny, lost: true},
		"rest": {follows: func(_ context.Context, t *testing.T, s *socket.Socket, _ *sealer) {
			if !socket.PutToRest(s) {
				t.Error("it isn't compact")
			}
		}},
		"the loop's end": {follows: func(ctx context.Context, t *testing.T, s *socket.Socket, _ *sealer) {
			socket.EndOfLoop(s)
			if _, err := s.SendSoon(ctx, []byte("x")); !errors.Is(err, runtime.ErrShutdown) {
				t.Error(err)
			}
		}},
		"keys that are wiped": {follows: func(
			ctx context.Context, t *testing.T, s *socket.Socket, _ *sealer,
		) {
			socket.WipeSecrets(s)
			if _, err := s.SendSoon(ctx, []byte("x")); err == nil {
				t.Error("it sends without keys")
			}
		}},
		"an answer to a KeyUpdate": {follows: func(
			ctx context.Context, t *testing.T, s *socket.Socket, p *sealer,
		) {
			p.wire.Write(append(p.update(1), p.seal(23, []byte("x"))...))
			n, err := s.Recv(ctx, make([]byte, 10))
			if leaktest.Check(t, err); n != 1 {
				t.Error(n)
			}
			_, err = s.SendAll(ctx, []byte("more"))
			leaktest.Check(t, err)
		}, behind: "more"},
		"an alert": {follows: func(ctx context.Context, t *testing.T, s *socket.Socket, p *sealer) {
			p.wire.Write(p.seal(99, nil))
			if _, err := s.Recv(ctx, make([]byte, 10)); err == nil {
				t.Error("that was taken")
			}
		}, end: errAny},
	} {
		t.Run(name, func(t *testing.T) {
			eachCompactRole(t, func(
				ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, p *sealer,
			) {
				for range 2 {
					_, err := s.SendSoon(ctx, []byte(secret))
					leaktest.Check(t, err)
				}
				c.follows(ctx, t, s, p)
				want := secret + secret + c.behind
				got := make([]byte, len(want))
				var n int
				var err error
				await(ctx, func() {
					n, err = io.ReadFull(p, got)
					if err == nil && c.end != nil {
						_, err = p.Read(make([]byte, 1))
					}
				})
				if string(got[:n]) != want && (n > 0 || !c.lost) {
					t.Errorf("%d bytes have come: %.50q", n, got[:n])
				}
				if c.end == errAny && err == nil || c.end != errAny && err != c.end {
					t.Errorf("the peer has %v, want %v", err, c.end)
				}
				if bytes.Contains(p.heard.Bytes(), []byte(secret)) {
					t.Error("it has left in plaintext")
				}
			})
		})
	}
}

// A socket that is closed in the last moment of its handshake keeps no secrets either.
func TestCompactSecretsOfASocketClosedInItsHandshake(t *testing.T) {
	for _, end := range []func(*socket.Socket) error{
		(*socket.Socket).Close, (*socket.Socket).Abort,
		func(s *socket.Socket) error { socket.EndOfLoop(s); return nil },
	} {
		withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
			s, peer, config := withCryptoTLS(ctx, t, "tcp", "client", tls.VersionTLS13)
			defer s.Close()
			defer peer.NetConn().Close()
			config = never(s, config)
			config.VerifyConnection = func(tls.ConnectionState) error { return end(s) }
			peers.Go(func() { peer.Handshake() })
			if err := s.SSLHandshake(ctx, config); err == nil && socket.SecretsOf(s)() {
				t.Error("there still are some")
			}
			peer.NetConn().Close()
			await(ctx, peers.Wait)
		})
	}
}

// errAny is any error.
var errAny = errors.New("any")
