package compact

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/internal/childtest"
)

// hello is a record that a ClientHello begins with.
func hello(random [32]byte, length int) []byte {
	b := []byte{typeHandshake, 3, 1, byte(length >> 8), byte(length), 1, 0, 0, 200, 3, 3}
	return append(append(b, random[:]...), make([]byte, 200)...)
}

// tell writes both lines of a connection's secrets.
func tell(c *tls.Config, random [32]byte, secret byte) {
	for _, label := range [][]byte{labelClient, labelServer} {
		fmt.Fprintf(c.KeyLogWriter, "%s%x %s\n", label, random, fmt.Sprintf("%064x", secret))
	}
}

// Whoever sends another connection's client random, in plain sight or behind something else, gets
// neither connection the other's secrets.
func TestForeignSecrets(t *testing.T) {
	state := &tls.ConnectionState{
		Version:     tls.VersionTLS13,
		CipherSuite: tls.TLS_AES_128_GCM_SHA256,
	}
	ech := *state
	ech.ECHAccepted = true
	random := [32]byte{1, 2, 3}
	for name, c := range map[string]struct {
		length  int
		state   *tls.ConnectionState
		foreign func(config *tls.Config, own func())
		want    bool
	}{
		"none":          {200, state, func(_ *tls.Config, own func()) { own() }, true},
		"before":        {200, state, func(c *tls.Config, own func()) { tell(c, random, 2); own() }, false},
		"behind":        {200, state, func(c *tls.Config, own func()) { own(); tell(c, random, 2) }, false},
		"short record":  {37, state, func(_ *tls.Config, own func()) { own() }, false},
		"random of ECH": {200, &ech, func(_ *tls.Config, own func()) { own() }, false},
		"at once": {200, state, func(c *tls.Config, own func()) {
			var both sync.WaitGroup
			both.Go(own)
			both.Go(func() { tell(c, random, 2) })
			both.Wait()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config(nil)
			capture := NewCapture(config, false)
			for _, b := range hello(random, c.length) { // one byte at a time
				capture.Hello([]byte{b})
			}
			c.foreign(config, func() { tell(config, random, 1) })
			if got := capture.Begin(c.state); got != c.want {
				t.Errorf("it may be taken over: %v", got)
			}
			if (capture.Why() == EncryptedHello) != c.state.ECHAccepted {
				t.Errorf("the reason is %d", capture.Why())
			}
			tell(config, random, 3)
			if h := capture.client.secret[31]; c.want && h != 1 {
				t.Errorf("secret %d", h)
			}
		})
	}
}

// The first record in each direction shows whether secret and number are right.
func TestWrongSecretShows(t *testing.T) {
	for _, sends := range []bool{true, false} {
		w, own, _ := shake(t, false, nil)
		own.Write([]byte("x"))
		if w.c.Useless() {
			t.Fatal("it shows where all is right")
		}
		w, own, other := shake(t, false, nil)
		if sends {
			w.c.own().seq++
			own.Write([]byte("x"))
		} else {
			w.c.peers().secret[0]++
			other.Write([]byte("x"))
			record, err := readRecord(w.Conn)
			if err != nil {
				t.Fatal(err)
			}
			w.c.Received(record, true)
		}
		if !w.c.Useless() {
			t.Errorf("sends %v: it doesn't show", sends)
		}
	}
}

// Records that change nothing don't keep a connection from becoming compact; others do.
func TestRecordsThatBringNothing(t *testing.T) {
	ticket := func(n int) []byte { return append([]byte{4, 0, 0, byte(n)}, make([]byte, n)...) }
	for name, c := range map[string]struct {
		kind    byte
		p       []byte
		nothing bool
	}{
		"empty":              {kind: typeData, nothing: true},
		"ticket":             {kind: typeHandshake, p: ticket(100), nothing: true},
		"two tickets":        {kind: typeHandshake, p: append(ticket(100), ticket(50)...), nothing: true},
		"half a ticket":      {kind: typeHandshake, p: ticket(100)[:50]},
		"ticket and a half":  {kind: typeHandshake, p: append(ticket(100), ticket(50)[:20]...)},
		"ticket, then a key": {kind: typeHandshake, p: append(ticket(9), 24, 0, 0, 1, 0)},
		"no type":            {kind: 0},
		"warning":            {kind: typeAlert, p: []byte{1, alertUserCanceled}},
	} {
		for _, padding := range []int{0, 10} {
			w, _, _ := shake(t, true, nil)
			peer := newState(w.c.suite, identity{}, new(half), w.c.peers())
			w.c.Received(peer.sealed(c.kind, c.p, padding), false)
			if w.c.Useless() == c.nothing {
				t.Errorf("%s, padding of %d: useless is %v", name, padding, w.c.Useless())
			}
		}
	}
}

// What crypto/tls has said of the end stays said.
func TestCloseNotifyBeforeTheTakeOver(t *testing.T) {
	w, own, other := shake(t, false, nil)
	own.CloseWrite()
	w.c.Said()
	cs := own.ConnectionState()
	s, err := w.c.State(&cs)
	if err != nil {
		t.Fatal(err)
	}
	_, want := own.Write([]byte("x"))
	if b, err := s.Append(nil, []byte("x")); err == nil || err.Error() != want.Error() ||
		len(b) > 0 {
		t.Errorf("%x, %v; crypto/tls has %v", b, err, want)
	}
	if b := s.AppendCloseNotify(nil); len(b) > 0 {
		t.Errorf("it is said twice: %x", b)
	}
	if _, err := other.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// The exporter is gone, which is an error and no panic.
func TestExporterIsGone(t *testing.T) {
	s, w, _ := compactedCounting(t, true, func(_, server *tls.Config) {
		server.CurvePreferences = []tls.CurveID{tls.CurveP384}
	})
	cs := s.ConnectionState()
	if b, err := cs.ExportKeyingMaterial("label", nil, 16); err == nil {
		t.Errorf("%x", b)
	}
	if !cs.HelloRetryRequest {
		t.Error("the retry is forgotten")
	}
	w.Conn.Close()
}

// BenchmarkFirstPacket is what a packet of 100 bytes each way costs when keys have to be expanded,
// and when they don't.
func BenchmarkFirstPacket(b *testing.B) {
	for _, rests := range []bool{true, false} {
		for id := range suites {
			b.Run(fmt.Sprintf("%s/rests=%v", tls.CipherSuiteName(id), rests), func(b *testing.B) {
				near, far := pair(id)
				var record []byte
				data := make([]byte, 100)
				b.ReportAllocs()
				before := childtest.CPUTime()
				for b.Loop() {
					if rests {
						near.Rest()
						far.Rest()
					}
					record, _ = near.Append(record[:0], data)
					if _, _, _, err := far.Open(nil, record); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((childtest.CPUTime()-before).Nanoseconds())/float64(b.N),
					"cpu-ns/op")
			})
		}
	}
}

// GetConfigForClient may choose nothing, or refuse; nothing is left behind.
func TestGetConfigForClient(t *testing.T) {
	refused := errors.New("refused")
	for _, want := range []error{nil, refused} {
		w, own, other := wired(t, false, func(_, server *tls.Config) {
			server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return nil, want
			}
		})
		done := make(chan error, 1)
		go func() { done <- other.Handshake() }()
		if err := own.Handshake(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if err := <-done; (err == nil) != (want == nil) {
			t.Error(err)
		}
		cs := own.ConnectionState()
		if got := w.c.Begin(&cs); got != (want == nil) {
			t.Errorf("%v: it may be taken over: %v", want, got)
		}
		w.c.captures.Range(func(any, any) bool { t.Error("a Capture is left"); return false })
	}
}
