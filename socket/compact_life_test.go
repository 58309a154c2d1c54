//go:build linux

package socket_test

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"net"
	"reflect"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// never has a Socket become compact only when a test puts it to rest.
func never(s *socket.Socket, config *tls.Config) *tls.Config {
	config = mayCompact(s, config)
	timeouts := s.Timeouts()
	timeouts.CompactTLS.After = 1 << 50
	s.SetTimeouts(timeouts)
	return config
}

// Secrets are wiped however a connection ends, before it has become compact and afterwards.
func TestCompactSecretsAreWiped(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, s *socket.Socket, peer *tls.Conn){
		"Close": func(_ context.Context, s *socket.Socket, _ *tls.Conn) { s.Close() },
		"Close of what is queued": func(ctx context.Context, s *socket.Socket, _ *tls.Conn) {
			s.SendSoon(ctx, []byte("x"))
			s.Close()
		},
		"Abort": func(_ context.Context, s *socket.Socket, _ *tls.Conn) { s.Abort() },
		"the peer's end": func(ctx context.Context, s *socket.Socket, peer *tls.Conn) {
			peer.Close()
			s.Recv(ctx, make([]byte, 1))
			s.Close()
		},
		"reset": func(ctx context.Context, s *socket.Socket, peer *tls.Conn) {
			peer.NetConn().(*net.TCPConn).SetLinger(0)
			peer.NetConn().Close()
			s.Recv(ctx, make([]byte, 1))
			s.Close()
		},
		"a record that is refused": func(ctx context.Context, s *socket.Socket, peer *tls.Conn) {
			peer.NetConn().Write([]byte("\x17\x03\x03\x00\x20 not what was sealed with the key, no"))
			s.Recv(ctx, make([]byte, 1))
			s.Close()
		},
	} {
		for _, compact := range []bool{false, true} {
			for _, role := range []string{"client", "server"} {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					s, peer, config := withCryptoTLS(ctx, t, "tcp", role, tls.VersionTLS13)
					defer s.Close()
					defer peer.NetConn().Close()
					shaken := make(chan error, 1)
					go func() { shaken <- peer.Handshake() }()
					leaktest.Check(t, s.SSLHandshake(ctx, never(s, config)))
					await(ctx, func() { <-shaken })
					if compact && !socket.PutToRest(s) {
						t.Fatal("it isn't compact")
					}
					secrets := socket.SecretsOf(s)
					if !secrets() {
						t.Fatal("there are none")
					}
					end(ctx, s, peer)
					if secrets() {
						t.Errorf("%s, %s, compact %v: there still are some", name, role, compact)
					}
				})
			}
		}
	}
}

// So they are when nobody has closed the connection before its runtime ends.
func TestCompactSecretsEndWithTheRuntime(t *testing.T) {
	rt, err := runtime.New(runtime.WithLogger(zap.NewNop()))
	leaktest.Check(t, err)
	leaktest.Check(t, rt.Start())
	var looks []func() bool
	ready := make(chan struct{})
	rt.Go(func(ctx context.Context) {
		defer close(ready)
		for _, compact := range []bool{false, true} {
			client, server := connected(ctx, t, "tcp")
			forClient, forServer := configs(tls.VersionTLS13)
			forClient, forServer = never(client, forClient), never(server, forServer)
			if err := bothShake(ctx, client, server, forClient, forServer); err != nil {
				t.Error(err)
				return
			}
			for _, s := range []*socket.Socket{client, server} {
				if compact && !socket.PutToRest(s) {
					t.Error("it isn't compact")
				}
				looks = append(looks, socket.SecretsOf(s))
			}
		}
	})
	<-ready
	leaktest.Check(t, rt.Shutdown(context.Background()))
	for i, secrets := range looks {
		if secrets() {
			t.Errorf("connection %d still has some", i)
		}
	}
}

// And when a handshake fails after they were known, or its connection can't become compact.
func TestCompactSecretsOfHandshakesThatFail(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, wire := accepted(ctx, t, "tcp")
		defer wire.Close()
		forClient, forServer := configs(tls.VersionTLS13)
		forServer.ClientAuth = tls.RequireAnyClientCert // which is asked for behind the secrets
		var secrets func() bool
		certificates := forServer.Certificates
		forServer.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			secrets = socket.SecretsOfHandshake(hello.Conn)
			return &certificates[0], nil
		}
		forServer.Certificates = nil
		peer := tls.Client(wire, forClient)
		go peer.Handshake()
		if err := s.SSLHandshake(ctx, mayCompact(s, forServer)); err == nil {
			t.Fatal("the handshake has succeeded")
		}
		if secrets() {
			t.Error("there still are some")
		}
	})
}

// What ConnectionState answered before, it answers after, but for the certificates and what came
// with them, and for the exporter, which KeepCertificates keep as well.
func TestCompactConnectionState(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, role := range []string{"client", "server"} {
			for _, kind := range []string{"", "both have certificates", "retry"} {
				withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
					connect := dialed
					if role == "server" {
						connect = accepted
					}
					s, wire := connect(ctx, t, "tcp")
					defer s.Close()
					defer wire.Close()
					forClient, forServer := configs(tls.VersionTLS13)
					forClient.NextProtos, forServer.NextProtos = []string{"a", "b"}, []string{"b"}
					forServer.Certificates[0].OCSPStaple = []byte("staple")
					forServer.Certificates[0].SignedCertificateTimestamps = [][]byte{
						[]byte("stamp"),
					}
					switch kind {
					case "both have certificates":
						forServer.ClientAuth, forServer.ClientCAs = tls.RequireAnyClientCert, forClient.RootCAs
						forClient.Certificates = forServer.Certificates
					case "retry":
						forServer.CurvePreferences = []tls.CurveID{tls.CurveP384}
					}
					config, peer := forClient, tls.Server(wire, forServer)
					if role == "server" {
						config, peer = forServer, tls.Client(wire, forClient)
					}
					shaken := make(chan error, 1)
					go func() { shaken <- peer.Handshake() }()
					config = never(s, config)
					timeouts := s.Timeouts()
					timeouts.CompactTLS.KeepCertificates = keep
					s.SetTimeouts(timeouts)
					leaktest.Check(t, s.SSLHandshake(ctx, config))
					await(ctx, func() { <-shaken })

					was, _ := s.ConnectionState()
					exported, err := was.ExportKeyingMaterial("label", nil, 16)
					leaktest.Check(t, err)
					id, known := s.PeerIdentity()
					if !socket.PutToRest(s) {
						t.Fatal("it isn't compact")
					}
					is, ok := s.ConnectionState()
					isID, isKnown := s.PeerIdentity()
					if !ok || known != isKnown || known != (len(was.PeerCertificates) > 0) ||
						!reflect.DeepEqual(id, isID) {
						t.Errorf("%v, %v, %+v; was %v, %+v", ok, isKnown, isID, known, id)
					}
					again, err := is.ExportKeyingMaterial("label", nil, 16)
					if keep != (err == nil) || keep && !reflect.DeepEqual(again, exported) {
						t.Errorf("keep %v: the exporter has %x, %v", keep, again, err)
					}
					sameState(t, was, is, keep)
				})
			}
		}
	}
}

// sameState compares all fields that there are, so that what crypto/tls adds isn't forgotten.
func sameState(t *testing.T, was, is tls.ConnectionState, keep bool) {
	t.Helper()
	gone := map[string]bool{
		"PeerCertificates": true, "VerifiedChains": true,
		"SignedCertificateTimestamps": true, "OCSPResponse": true,
	}
	before, after := reflect.ValueOf(was), reflect.ValueOf(is)
	for i := range before.NumField() {
		field := before.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		want := before.Field(i)
		if gone[field.Name] && !keep {
			want = reflect.Zero(field.Type)
		}
		if !reflect.DeepEqual(after.Field(i).Interface(), want.Interface()) {
			t.Errorf("%s is %v, want %v", field.Name, after.Field(i), want)
		}
	}
}

// A connection can be pinned: its socket is told not to before the handshake.
func TestPinnedToCryptoTLS(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		s, peer, config := withCryptoTLS(ctx, t, "tcp", "client", tls.VersionTLS13)
		defer s.Close()
		defer peer.NetConn().Close()
		config = mayCompact(s, config) // what all connections of a client have
		timeouts := s.Timeouts()
		timeouts.CompactTLS.After = 0
		s.SetTimeouts(timeouts)
		shaken := make(chan error, 1)
		go func() { shaken <- peer.Handshake() }()
		leaktest.Check(t, s.SSLHandshake(ctx, config))
		await(ctx, func() { <-shaken })
		cs, _ := s.ConnectionState()
		if socket.PutToRest(s) || len(cs.PeerCertificates) == 0 {
			t.Error("it is compact")
		}
	})
}

// A header that announces a large record has no large buffer held for it.
func TestCompactHoldsWhatHasCome(t *testing.T) {
	eachCompactRole(
		t,
		func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, p *sealer) {
			sent := pattern(16 << 10)
			record := p.seal(23, sent)
			got := make([]byte, len(sent))
			receiver, _ := runtime.Go(ctx, func(ctx context.Context) {
				if _, err := s.RecvAll(ctx, got); err != nil {
					t.Error(err)
				}
			})
			for _, end := range []int{5, 50, 500} {
				p.wire.Write(record[:end])
				record = record[end:]
				until(ctx, func() bool {
					held := socket.HeldByTLS(s)
					return unread(s) == 0 && 0 < held && held < 1000
				})
			}
			p.wire.Write(record)
			receiver.Join(ctx)
			mustBe(t, got, sent)
		},
	)
}

// Small packets that are sent in one turn share one record.
func TestCompactSmallPacketsOfATurn(t *testing.T) {
	eachCompactRole(
		t,
		func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, p *sealer) {
			const packets, size = 20, 100
			sent := pattern(packets * size)
			for i := range packets {
				_, err := s.SendSoon(ctx, sent[i*size:(i+1)*size])
				leaktest.Check(t, err)
			}
			if queued := socket.Queued(s); queued != 5+packets*size { // one header
				t.Errorf("%d are queued", queued)
			}
			got := make([]byte, len(sent))
			peers.Go(func() { io.ReadFull(p, got) })
			await(ctx, peers.Wait)
			mustBe(t, got, sent)
		},
	)
}

// It is told how many connections stay with crypto/tls, and why.
func TestNotCompactSaysWhy(t *testing.T) {
	withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
		before := socket.NotCompact()
		s, peer, config := withCryptoTLS(ctx, t, "tcp", "client", tls.VersionTLS12)
		defer s.Close()
		defer peer.NetConn().Close()
		shaken := make(chan error, 1)
		go func() { shaken <- peer.Handshake() }()
		leaktest.Check(t, s.SSLHandshake(ctx, mayCompact(s, config)))
		await(ctx, func() { <-shaken })
		if got := socket.NotCompact()["version"] - before["version"]; got != 1 {
			t.Errorf("%d of TLS 1.2", got)
		}

		other, wire := dialed(ctx, t, "tcp")
		defer other.Close()
		defer wire.Close()
		forClient, _ := configs(tls.VersionTLS13)
		var p *sealer
		peers.Go(func() { p, _ = sealed(wire, "client") })
		leaktest.Check(t, other.SSLHandshake(ctx, never(other, forClient)))
		await(ctx, peers.Wait)
		wire.Write(append(p.update(1), p.seal(23, []byte("x"))...))
		if _, err := other.Recv(ctx, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if socket.PutToRest(other) {
			t.Error("it is compact")
		}
		after := socket.NotCompact()
		if got := after["key update"] - before["key update"]; got != 1 ||
			after["unclear"] != before["unclear"] ||
			after["ech"] != before["ech"] {
			t.Errorf("%v, before: %v", after, before)
		}
	})
}

// Tickets that come after the take-over are dropped, and counted when the connection has ended; the
// data behind them arrives.
func TestCompactLateTickets(t *testing.T) {
	_, before := socket.Compact()
	eachCompactRole(
		t,
		func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, p *sealer) {
			ticket := append([]byte{4, 0, 0, 60}, make([]byte, 60)...)
			p.wire.Write(append(p.seal(22, ticket), p.seal(22, append(ticket, ticket...))...))
			p.wire.Write(p.seal(23, []byte("hello")))
			n, err := s.Recv(ctx, make([]byte, 10))
			if t.Name() == "TestCompactLateTickets/client" {
				if n != 5 || err != nil {
					t.Errorf("%d, %v", n, err)
				}
			} else if !errors.Is(err, tls.AlertError(10)) { // no client has any
				t.Error(err)
			}
			s.Close()
		},
	)
	if _, after := socket.Compact(); after != before+3 {
		t.Errorf("%d tickets were dropped", after-before)
	}
}

// A peer that asks for new keys again and again, and takes no answer, has the connection end: what
// is queued for it is bounded.
func TestCompactAnswersAreBounded(t *testing.T) {
	// TCP drops whole segments, and what they acknowledge, of a peer that reads nothing at all.
	eachCompactRoleOver(
		t, "unix",
		func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, p *sealer) {
			leaktest.Check(t, s.SetBuffers(0, 4<<10))
			peers.Go(func() {
				for {
					_, err := p.wire.Write(append(p.update(1), p.seal(23, []byte("x"))...))
					if err != nil {
						return
					}
				}
			})
			most := 0
			for more := 2600; more > 0; { // whose answers would be another 70 KB
				if _, err := s.RecvAll(ctx, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if most = max(most, socket.Queued(s)); most >= 240<<10 {
					more--
				}
			}
			if most > 300<<10 {
				t.Errorf("%d bytes were queued", most)
			}
			if _, err := s.SendAll(ctx, []byte("x")); err == nil ||
				!strings.HasSuffix(err.Error(), "the peer takes no answers") {
				t.Error(err)
			}
			s.Abort()
			await(ctx, peers.Wait)
		},
	)
}

// Connections become compact while others send, receive, look, are told to change their keys, shut
// down, cancel and close, at any moment: nothing is lost, and nothing is said twice.
func TestCompactAtAnyMoment(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		for _, ending := range []string{"Close", "Abort", "Shutdown", "Cancel"} {
			for range *moments {
				withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
					atAnyMoment(ctx, t, peers, role, ending)
				})
			}
		}
	}
}

var moments = flag.Int("moments", 3, "how many connections TestCompactAtAnyMoment has of each kind")

func atAnyMoment(ctx context.Context, t *testing.T, peers *sync.WaitGroup, role, ending string) {
	connect, forClient, forServer := dialed, (*tls.Config)(nil), (*tls.Config)(nil)
	forClient, forServer = configs(tls.VersionTLS13)
	config := forClient
	if role == "server" {
		connect, config = accepted, forServer
	}
	s, wire := connect(ctx, t, "tcp")
	defer s.Close()
	wire.SetDeadline(time.Now().Add(leaktest.Patience))
	var p *sealer
	shaken := make(chan struct{})
	peers.Go(func() {
		defer close(shaken)
		p, _ = sealed(wire, role)
	})
	leaktest.Check(t, s.SSLHandshake(ctx, never(s, config)))
	await(ctx, func() { <-shaken })
	stop, rested := make(chan struct{}), make(chan struct{})
	peers.Go(func() {
		defer close(rested)
		for {
			select {
			case <-stop:
				return
			default:
				socket.PutToRest(s)
				goruntime.Gosched()
			}
		}
	})
	const messages = 40
	peers.Go(func() { // echoes
		buf := make([]byte, 100)
		for i := range messages {
			if _, err := io.ReadFull(p, buf); err != nil {
				t.Errorf("%s, %s: the peer has received %d: %v", role, ending, i, err)
				s.Abort()
				return
			}
			var records []byte
			if i > 1 { // not at once: it may stay with crypto/tls then
				// crypto/tls takes 16 answers without data between them
				records = p.update(byte(i % 4 / 3))
			}
			wire.Write(append(records, p.seal(23, buf)...))
		}
	})
	looks := make(chan struct{})
	peers.Go(func() {
		defer close(looks)
		for {
			select {
			case <-stop:
				return
			default:
				s.ConnectionState()
				s.PeerIdentity()
				goruntime.Gosched()
			}
		}
	})
	receiver, _ := runtime.Go(ctx, func(ctx context.Context) {
		got := make([]byte, 100)
		for i := range messages {
			if _, err := s.RecvAll(ctx, got); err != nil {
				t.Errorf("%s, %s: received %d: %v", role, ending, i, err)
				return
			}
			mustBe(t, got, pattern(100 + i)[i:])
		}
	})
	for i := range messages {
		send := s.SendAll
		if i%3 == 0 {
			send = s.SendSoon // and wiped or put to rest in between, perhaps
		}
		if _, err := send(ctx, pattern(100 + i)[i:]); err != nil {
			t.Errorf("%s, %s: sent %d: %v", role, ending, i, err)
			break
		}
	}
	receiver.Join(ctx)
	waits, _ := runtime.Go(ctx, func(ctx context.Context) { s.Recv(ctx, make([]byte, 1)) })
	switch ending {
	case "Close":
		s.Close()
	case "Abort":
		s.Abort()
	case "Shutdown":
		leaktest.Check(t, s.Shutdown(ctx, socket.ShutdownWrite))
		await(ctx, func() {
			if _, err := p.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the peer has %v", err)
			}
		})
		s.Close()
	case "Cancel":
		until(ctx, func() bool { return s.Cancel(socket.ReadEvent) })
		s.Close()
	}
	waits.Join(ctx)
	close(stop)
	if ending == "Close" || ending == "Cancel" {
		await(ctx, func() {
			if _, err := p.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s, %s: the peer has %v", role, ending, err)
			}
		})
	}
	wire.Close()
	await(ctx, func() { <-rested; <-looks })
}
