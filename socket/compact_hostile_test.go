//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/compact"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// mayCompact has a Socket become compact after a short silence, and returns the configuration for
// its handshake.
func mayCompact(s *socket.Socket, config *tls.Config) *tls.Config {
	timeouts := s.Timeouts()
	timeouts.CompactTLS.After = 10 * time.Millisecond
	s.SetTimeouts(timeouts)
	return compact.Config(config)
}

// compactCount is how many connections are compact.
func compactCount() int64 {
	n, _ := socket.Compact()
	return n
}

// sealer is the other end of a Socket. crypto/tls shakes hands and receives; what is sent is sealed
// here, so that it may be anything.
type sealer struct {
	*tls.Conn
	wire   net.Conn
	heard  bytes.Buffer // all that has come on the wire, as it was
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    byte
}

// hearing keeps what is read.
type hearing struct {
	net.Conn
	heard *bytes.Buffer
}

func (h hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.heard.Write(p[:n])
	return n, err
}

// sealed makes the handshake of a sealer. role is the Socket's.
func sealed(wire net.Conn, role string) (*sealer, error) {
	forClient, forServer := configs(tls.VersionTLS13)
	var log bytes.Buffer
	p := &sealer{wire: wire}
	config, label := forClient, "CLIENT"
	if role == "client" {
		config, label = forServer, "SERVER"
	}
	config = config.Clone()
	config.KeyLogWriter, config.SessionTicketsDisabled = &log, true
	if p.Conn = tls.Client(hearing{wire, &p.heard}, config); role == "client" {
		p.Conn = tls.Server(hearing{wire, &p.heard}, config)
	}
	if err := p.Handshake(); err != nil {
		return nil, err
	}
	if id := p.ConnectionState().CipherSuite; id != tls.TLS_AES_128_GCM_SHA256 {
		return nil, errors.New(tls.CipherSuiteName(id))
	}
	for line := range bytes.Lines(log.Bytes()) {
		var random string
		if n, _ := fmt.Sscanf(string(line), label+"_TRAFFIC_SECRET_0 %s %x", &random, &p.secret); n == 2 {
			p.expand()
		}
	}
	return p, nil
}

func (p *sealer) label(label string, n int) []byte {
	info := fmt.Sprintf("\x00%c%ctls13 %s\x00", n, len("tls13 ")+len(label), label)
	out, err := hkdf.Expand(sha256.New, p.secret, info, n)
	if err != nil {
		panic(err)
	}
	return out
}

func (p *sealer) expand() {
	block, err := aes.NewCipher(p.label("key", 16))
	if err != nil {
		panic(err)
	}
	if p.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	p.iv, p.seq = p.label("iv", 12), 0
}

// seal makes a record; there may be 256 under one key.
func (p *sealer) seal(kind byte, data []byte) []byte {
	nonce := bytes.Clone(p.iv)
	nonce[11] ^= p.seq
	p.seq++
	n := len(data) + 1 + 16
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return p.aead.Seal(header, nonce, append(bytes.Clone(data), kind), header)
}

// update makes a KeyUpdate, which may ask for one.
func (p *sealer) update(ask byte) []byte {
	record := p.seal(22, []byte{24, 0, 0, 1, ask})
	p.secret = p.label("traffic upd", 32)
	p.expand()
	return record
}

// eachCompactRole runs a test with a Socket that has just become compact, over TCP.
func eachCompactRole(
	t *testing.T,
	test func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, p *sealer),
) {
	eachCompactRoleOver(t, "tcp", test)
}

func eachCompactRoleOver(
	t *testing.T,
	network string,
	test func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, p *sealer),
) {
	for _, role := range []string{"client", "server"} {
		t.Run(role, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				forClient, forServer := configs(tls.VersionTLS13)
				connect, config := dialed, forClient
				if role == "server" {
					connect, config = accepted, forServer
				}
				s, wire := connect(ctx, t, network)
				defer s.Close()
				before := compactCount()
				var p *sealer
				peers.Go(func() {
					var err error
					if p, err = sealed(wire, role); err != nil {
						t.Error(err)
					}
				})
				if err := s.SSLHandshake(ctx, mayCompact(s, config)); err != nil {
					t.Fatal(err)
				}
				await(ctx, peers.Wait)
				defer wire.Close()
				until(ctx, func() bool { return compactCount() == before+1 })
				test(ctx, t, peers, s, p)
			})
		})
	}
}

var keyUpdates = flag.Int("keyupdates", 300, "how many TestCompactKeyUpdatesBesideSends has")

// A peer asks for new keys while others send, on another goroutine: records go out in the order in
// which they were sealed.
func TestCompactKeyUpdatesBesideSends(t *testing.T) {
	eachCompactRole(
		t,
		func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, p *sealer) {
			const ahead, piece = 8, 1 << 10 // crypto/tls takes 16 answers without data between them
			updates := *keyUpdates
			sent := pattern(updates * piece)
			due := make(chan struct{}, updates)
			peers.Go(func() {
				got := make([]byte, piece)
				for i := range updates + ahead {
					if i < updates {
						p.wire.Write(append(p.update(1), p.seal(23, []byte("x"))...))
					}
					if i < ahead {
						continue
					}
					start := (i - ahead) * piece
					if n, err := io.ReadFull(p, got); err != nil {
						t.Errorf("the peer has received %d: %v", start+n, err)
						s.Close()
						return
					}
					mustBe(t, got, sent[start:start+piece])
				}
			})
			peers.Go(func() {
				start := 0
				for range due {
					for end := start + piece; start < end; start += piece / 4 {
						if _, err := s.SendAll(ctx, sent[start:start+piece/4]); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
			for i := range updates {
				if _, err := s.RecvAll(ctx, make([]byte, 1)); err != nil {
					t.Errorf("received %d: %v", i, err)
					break
				}
				due <- struct{}{}
			}
			close(due)
			await(ctx, peers.Wait)
		},
	)
}

// An error tells whether it is this end's or the other's, as crypto/tls has it.
func TestCompactErrorsTellWhose(t *testing.T) {
	for name, c := range map[string]struct {
		record func(p *sealer) []byte
		op     string
		alert  tls.AlertError
	}{
		"alert":   {func(p *sealer) []byte { return p.seal(21, []byte{2, 80}) }, "remote error", 80},
		"warning": {func(p *sealer) []byte { return p.seal(21, []byte{1, 80}) }, "remote error", 80},
		"forged": {func(p *sealer) []byte {
			record := p.seal(23, []byte("hello"))
			record[10] ^= 1
			return record
		}, "local error", 20},
		"oversized": {func(*sealer) []byte { return []byte{23, 3, 3, 0x41, 1} }, "local error", 22},
	} {
		t.Run(name, func(t *testing.T) {
			eachCompactRole(
				t,
				func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, p *sealer) {
					p.wire.Write(c.record(p))
					_, err := s.Recv(ctx, make([]byte, 10))
					op, ok := errors.AsType[*net.OpError](err)
					for ok && op.Op != c.op {
						op, ok = errors.AsType[*net.OpError](op.Err)
					}
					if !ok || !errors.Is(err, c.alert) {
						t.Errorf("%v, want a %s, %v", err, c.op, c.alert)
					}
				},
			)
		})
	}
}

// The header of a record that comes in pieces before the take-over counts once.
func TestCompactAfterAHeaderInPieces(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		t.Run(role, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer, config := withCryptoTLS(ctx, t, "tcp", role, tls.VersionTLS13)
				defer s.Close()
				before := compactCount()
				wire := peer.NetConn()
				defer wire.Close()
				var p *sealer
				peers.Go(func() { p, _ = sealed(wire, role) })
				if err := s.SSLHandshake(ctx, mayCompact(s, config)); err != nil {
					t.Fatal(err)
				}
				await(ctx, peers.Wait)
				record := p.seal(23, []byte("hello"))
				got := make([]byte, 5)
				receiver, _ := runtime.Go(ctx, func(ctx context.Context) {
					if _, err := s.RecvAll(ctx, got); err != nil || string(got) != "hello" {
						t.Errorf("%q, %v", got, err)
					}
				})
				for i := range record {
					wire.Write(record[i : i+1])
					until(ctx, func() bool { return unread(s) == 0 })
				}
				receiver.Join(ctx)
				until(ctx, func() bool { return compactCount() == before+1 })
				wire.Write(p.seal(23, []byte("again")))
				if _, err := s.RecvAll(ctx, got); err != nil || string(got) != "again" {
					t.Errorf("%q, %v", got, err)
				}
			})
		})
	}
}

// A peer that sends half a record, and no more, has no large buffer held for it.
func TestCompactHalfARecord(t *testing.T) {
	eachCompactRole(
		t,
		func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, p *sealer) {
			sent := pattern(16 << 10)
			burst := append(p.seal(23, sent), p.seal(23, []byte("hello"))...)
			end := len(burst) - 3
			p.wire.Write(burst[:end])
			got := make([]byte, len(sent))
			if _, err := s.RecvAll(ctx, got); err != nil {
				t.Fatal(err)
			}
			receiver, _ := runtime.Go(ctx, func(ctx context.Context) {
				if n, err := s.Recv(ctx, got); err != nil || string(got[:n]) != "hello" {
					t.Errorf("%q, %v", got[:n], err)
				}
			})
			until(ctx, func() bool {
				held := socket.HeldByTLS(s)
				return unread(s) == 0 && 0 < held && held < 100
			})
			p.wire.Write(burst[end:])
			receiver.Join(ctx)
		},
	)
}

// Who closes a connection in the moment in which it is put to rest still has its keys wiped.
func TestCompactClosedWhilePutToRest(t *testing.T) {
	for range 20_000 {
		if !socket.WipedAfterRest() {
			t.Fatal("it isn't wiped")
		}
	}
}

// Connections that nobody has closed are no more counted when their runtime has ended.
func TestCompactCountAtTheRuntimesEnd(t *testing.T) {
	before := compactCount()
	runtimetest.Coroutine(t, runtimetest.Quiet, func(ctx context.Context, t *testing.T) {
		client, server := connected(ctx, t, "tcp")
		forClient, forServer := configs(tls.VersionTLS13)
		forClient, forServer = mayCompact(client, forClient), mayCompact(server, forServer)
		leaktest.Check(t, bothShake(ctx, client, server, forClient, forServer))
		until(ctx, func() bool { return compactCount() == before+2 })
	})
	leaktest.Until(t, "they aren't counted", func() bool { return compactCount() == before })
}
