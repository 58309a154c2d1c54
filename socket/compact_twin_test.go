//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/socket"
)

// A compact connection and one that stays with crypto/tls do the same for the same operations,
// whatever these are, up to the texts of errors.
func TestCompactTwin(t *testing.T) {
	for seed := range uint64(*twinsOf) {
		twins(t, seed)
	}
}

var twinsOf = flag.Int("twins", 12, "how many pairs TestCompactTwin has")

// FuzzCompactTwin is TestCompactTwin with operations that are found.
func FuzzCompactTwin(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { twins(t, seed) })
}

func twins(t *testing.T, seed uint64) {
	role := []string{"client", "server"}[seed%2]
	tlstest.OnlySuite(t, []uint16{
		tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256,
	}[seed/2%3])
	var did [2]string
	for i := range did {
		withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
			did[i] = operations(ctx, t, role, seed, i == 1)
		})
	}
	if did[0] != did[1] {
		t.Errorf("seed %d, %s: crypto/tls did\n%scompact, it did\n%s", seed, role, did[0], did[1])
	}
}

// operations has a Socket and crypto/tls do what a seed says, and returns what came of it.
func operations(ctx context.Context, t *testing.T, role string, seed uint64, compact bool) string {
	s, peer, config := withCryptoTLS(ctx, t, "tcp", role, tls.VersionTLS13)
	defer s.Close()
	defer peer.NetConn().Close()
	if compact {
		config = mayCompact(s, config)
	}
	before := compactCount()
	shaken := make(chan error, 1)
	go func() { shaken <- peer.Handshake() }()
	if err := s.SSLHandshake(ctx, config); err != nil {
		t.Fatal(err)
	}
	await(ctx, func() { <-shaken })
	r := rand.New(rand.NewPCG(seed, 1))
	var did strings.Builder
	text := strings.NewReplacer(s.RemoteAddr().String(), "peer", s.LocalAddr().String(), "here")
	note := func(what string, n int, err error) {
		fmt.Fprintf(&did, "%s %d %s\n", what, n, text.Replace(fmt.Sprint(err)))
	}
	quiet := func() { // until it is compact
		for compact && compactCount() != before+1 {
			until(ctx, func() bool { return compactCount() == before+1 })
		}
	}
	size := func() int { return 1 << r.IntN(17) * (1 + r.IntN(3)) / 3 }
	for range 5 + r.IntN(20) {
		n, from := size(), r.IntN(1000)
		data := pattern(from + n)[from:]
		got := make([]byte, n)
		switch r.IntN(7) {
		case 0: // the Socket sends
			go func() {
				_, err := io.ReadFull(peer, got)
				shaken <- err
			}()
			sent, err := s.SendAll(ctx, data)
			note("send", sent, err)
			await(ctx, func() { err = <-shaken })
			note("peer receives", 0, err)
			mustBe(t, got, data)
		case 1: // in pieces of any size
			go func() {
				for rest := bytes.NewReader(data); rest.Len() > 0; {
					io.CopyN(peer, rest, int64(1+n/3))
				}
				shaken <- nil
			}()
			received, err := s.RecvAll(ctx, got)
			note("receive", received, err)
			await(ctx, func() { <-shaken })
			mustBe(t, got, data)
		case 2, 3: // a part is received later
			n := min(n, 20_000)
			peer.Write(data[:n])
			cut := r.IntN(n + 1)
			received, err := s.RecvAll(ctx, got[:cut])
			if r.IntN(2) == 0 {
				quiet()
			}
			rest, err2 := s.RecvAll(ctx, got[received:n])
			note("receive "+fmt.Sprint(err), received+rest, err2)
			mustBe(t, got[:n], data[:n])
		case 4:
			quiet()
		case 5:
			cs, ok := s.ConnectionState()
			id, known := s.PeerIdentity()
			note(
				fmt.Sprint(
					ok,
					known,
					cs.Version,
					cs.CipherSuite,
					cs.CurveID,
					cs.ServerName,
					cs.DidResume,
					cs.HelloRetryRequest,
					cs.NegotiatedProtocol,
					cs.HandshakeComplete,
					id,
				),
				0,
				nil,
			)
		case 6:
			_, err := s.Recv(ctx, nil)
			note("nothing", 0, err)
		}
	}
	ending := r.IntN(5)
	if ending > 0 {
		quiet()
	}
	switch ending {
	case 0, 1: // this side is closed first, then the other; or not
		note("shutdown", 0, s.Shutdown(ctx, socket.ShutdownWrite))
		quiet()
		_, err := peer.Read(make([]byte, 1))
		note("peer", 0, err)
		_, err = s.SendAll(ctx, []byte("x"))
		note("send", 0, err)
		peer.Write([]byte("late"))
		n, err := s.RecvAll(ctx, make([]byte, 4))
		note("receive", n, err)
		if ending == 0 {
			peer.Close()
		} else {
			peer.NetConn().Close()
		}
	case 2:
		peer.CloseWrite()
	case 3:
		peer.NetConn().(*net.TCPConn).CloseWrite()
	case 4:
		peer.NetConn().Write([]byte(strings.Repeat("\x17\x03\x03\x00\x20", 20)))
	}
	for range 3 {
		n, err := s.Recv(ctx, make([]byte, 10))
		if ending == 4 { // here the texts differ
			err = errors.New(
				strings.Replace(
					fmt.Sprint(err),
					"a record that doesn't decrypt (tls: bad record MAC)",
					"bad record MAC",
					1,
				),
			)
		}
		note("end", n, err)
	}
	s.Close()
	if ending > 1 {
		n, err := io.Copy(io.Discard, peer)
		note("the peer's end", int(n), err)
	}
	_, err := s.SendAll(ctx, []byte("x"))
	note("send behind Close", 0, err)
	return did.String()
}
