package compact

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/tlsconfig/devca"
)

var certified = sync.OnceValues(func() (*tls.Config, *tls.Config) {
	ca, err := devca.New("Whorl test CA")
	if err != nil {
		panic(err)
	}
	cert, err := ca.Issue("mail.test")
	if err != nil {
		panic(err)
	}
	own, err := ca.Issue("client.test")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	return &tls.Config{ServerName: "mail.test", RootCAs: roots, Certificates: []tls.Certificate{own}, NextProtos: []string{"x"}},
		&tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: roots, NextProtos: []string{"x"}}
})

// A wire is what crypto/tls has for a connection: it is handed one record at a time.
type wire struct {
	net.Conn
	c        *Capture
	asClient bool

	rest   []byte // of the record that is being handed out
	record []byte
	begun  bool
	suite  uint16

	memory *memory // has the connection from now on
}

func (w *wire) Write(p []byte) (int, error) {
	if w.memory != nil {
		return w.memory.Write(p)
	}
	if w.asClient {
		w.c.Hello(p)
	}
	w.c.Sent(p)
	return w.Conn.Write(p)
}

func (w *wire) Read(p []byte) (int, error) {
	if w.memory != nil {
		return w.memory.Read(p)
	}
	if len(w.rest) == 0 {
		record, err := readRecord(w.Conn)
		if err != nil {
			return 0, err
		}
		w.rest, w.record = record, record
		if !w.asClient {
			w.c.Hello(record)
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func readRecord(r io.Reader) ([]byte, error) {
	header := make([]byte, HeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	record := append(header, make([]byte, int(header[3])<<8|int(header[4]))...)
	_, err := io.ReadFull(r, record[HeaderSize:])
	return bytes.Clone(record), err
}

// buffered is net.Pipe with room.
func buffered(t testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// wired are two connections of crypto/tls before their handshake. The first of them is
// captured.
func wired(t testing.TB, asClient bool, change func(client, server *tls.Config)) (w *wire, own, other *tls.Conn) {
	t.Helper()
	clientConfig, serverConfig := certified()
	clientConfig, serverConfig = clientConfig.Clone(), serverConfig.Clone()
	if change != nil {
		change(clientConfig, serverConfig)
	}
	near, far := buffered(t)
	w = &wire{Conn: near, asClient: asClient}
	if asClient {
		clientConfig = Config(clientConfig)
		w.c = NewCapture(clientConfig, asClient)
		return w, tls.Client(w, clientConfig), tls.Server(far, serverConfig)
	}
	serverConfig = Config(serverConfig)
	w.c = NewCapture(serverConfig, asClient)
	return w, tls.Server(w, serverConfig), tls.Client(far, clientConfig)
}

// shake makes the handshake of wired connections.
func shake(t testing.TB, asClient bool, change func(client, server *tls.Config)) (w *wire, own, other *tls.Conn) {
	t.Helper()
	w, own, other = wired(t, asClient, change)
	done := make(chan error, 1)
	go func() { done <- other.Handshake() }()
	if err := own.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cs := own.ConnectionState()
	w.begun, w.suite = w.c.Begin(&cs), cs.CipherSuite
	return w, own, other
}

// drive exchanges data between a State and crypto/tls.
func drive(t *testing.T, s *State, w *wire, other *tls.Conn) {
	t.Helper()
	raw := make([]byte, 0, 2*MaxRecord)
	for _, size := range []int{1, 100, MaxPlaintext, MaxPlaintext + 1, 100_000} {
		data := make([]byte, size)
		rand.Read(data)
		sealed, err := s.Append(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		go w.Conn.Write(sealed)
		got := make([]byte, size)
		if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("sent %d: %v", size, err)
		}
		go other.Write(data)
		got = got[:0]
		for len(got) < size {
			n, err := w.Conn.Read(raw[len(raw):cap(raw)])
			if err != nil {
				t.Fatal(err)
			}
			raw = raw[:len(raw)+n]
			for {
				n, data, _, err := s.Open(nil, raw)
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					break
				}
				got = append(got, data...)
				raw = append(raw[:0], raw[n:]...)
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("received %d: not what was sent", size)
		}
	}
}

// A State goes on where crypto/tls was, in both roles, whatever was sent under the application keys
// during the handshake.
func TestTakesOver(t *testing.T) {
	for name, change := range map[string]func(client, server *tls.Config){
		"tickets":     nil,
		"no tickets":  func(_, server *tls.Config) { server.SessionTicketsDisabled = true },
		"client cert": func(_, server *tls.Config) { server.ClientAuth = tls.RequireAnyClientCert },
		"retry":       func(client, server *tls.Config) { server.CurvePreferences = []tls.CurveID{tls.CurveP384} },
		"chosen": func(_, server *tls.Config) {
			chosen := server.Clone()
			server.Certificates = nil
			server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil }
		},
	} {
		for _, asClient := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "/client", false: "/server"}[asClient], func(t *testing.T) {
				s, w, other := compactedCounting(t, asClient, change)
				if want := other.ConnectionState(); s.ConnectionState().CipherSuite != want.CipherSuite ||
					s.ConnectionState().NegotiatedProtocol != "x" || s.ConnectionState().CurveID != want.CurveID {
					t.Errorf("%+v", s.ConnectionState())
				}
				drive(t, s, w, other)
				s.Rest()
				drive(t, s, w, other)
				w.Conn.Write(s.AppendCloseNotify(nil))
				if _, err := other.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("close_notify: %v", err)
				}
				other.CloseWrite()
				record, err := readRecord(w.Conn)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, _, err := s.Open(nil, record); err != io.EOF {
					t.Errorf("close_notify: %v", err)
				}
				if _, err := s.Append(nil, []byte("x")); err == nil {
					t.Error("data behind close_notify")
				}
			})
		}
	}
}

// compactedCounting is compacted, with the records that crypto/tls is handed counted as the socket
// does it.
func compactedCounting(t *testing.T, asClient bool, change func(client, server *tls.Config)) (*State, *wire, *tls.Conn) {
	t.Helper()
	w, own, other := shake(t, asClient, change)
	buf := make([]byte, 100)
	counter := &counting{wire: w}
	for _, text := range []string{"one", "two"} {
		other.Write([]byte(text))
		n, err := counter.read(own, buf)
		if err != nil || string(buf[:n]) != text {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		own.Write([]byte(text))
		if n, err := other.Read(buf); err != nil || string(buf[:n]) != text {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	cs := own.ConnectionState()
	s, err := w.c.State(&cs)
	if err != nil {
		t.Fatal(err)
	}
	return s, w, other
}

// counting reads records ahead of crypto/tls, to tell those with data from those without.
type counting struct{ wire *wire }

func (c *counting) read(own *tls.Conn, buf []byte) (int, error) {
	w := c.wire
	record, err := readRecord(w.Conn)
	if err != nil {
		return 0, err
	}
	w.rest = record
	probe, ok := peek(suites[w.suite], w.c.peers(), w.c.peers().seq, record)
	if !ok {
		return 0, errors.New("not the number that was counted")
	}
	if probe[len(probe)-1] == typeHandshake { // crypto/tls takes it with the next record
		w.c.Received(record, false)
		next, err := readRecord(w.Conn)
		if err != nil {
			return 0, err
		}
		w.rest = append(w.rest, next...)
	}
	n, err := own.Read(buf)
	w.c.Received(nil, true)
	return n, err
}

// pair returns two States that speak with each other.
func pair(id uint16) (client, server *State) {
	s := suites[id]
	var a, b half
	rand.Read(a.secret[:s.secret])
	rand.Read(b.secret[:s.secret])
	cs := &tls.ConnectionState{CipherSuite: id}
	return newState(s, identify(cs, true), &a, &b), newState(s, identify(cs, false), &b, &a)
}

func eachSuite(t *testing.T, test func(t *testing.T, id uint16)) {
	for id := range suites {
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) { test(t, id) })
	}
}

// Each bit of a record that is flipped, each byte that lacks or is too much, a record that comes
// twice or too late: all are refused, and nothing is taken afterwards.
func TestForgeries(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		record, _ := a.Append(nil, []byte("hello"))
		second, _ := a.Append(nil, []byte("again"))
		open := func(record []byte) error {
			s := *b
			s.in.live = nil
			n, data, _, err := s.Open(nil, bytes.Clone(record))
			if err == nil && n == 0 {
				return nil // more is needed: no data
			}
			if err == nil {
				t.Errorf("%q was taken", data)
				return nil
			}
			if _, _, _, again := s.Open(nil, bytes.Clone(record)); again != io.EOF {
				t.Errorf("it goes on: %v", again)
			}
			return err
		}
		for i := range 8 * len(record) {
			forged := bytes.Clone(record)
			forged[i/8] ^= 1 << (i % 8)
			var e *Error
			switch err := open(forged); {
			case err == nil: // a longer length
			case !errors.As(err, &e):
				t.Errorf("bit %d: %v", i, err)
			case i/8 >= HeaderSize && e.Alert != alertBadRecordMAC:
				t.Errorf("bit %d: %v", i, err)
			}
		}
		if open(second) == nil {
			t.Error("a record out of order")
		}
		if n, data, _, err := b.Open(nil, bytes.Clone(record)); err != nil || n != len(record) || string(data) != "hello" {
			t.Fatal(err)
		}
		if _, _, _, err := b.Open(nil, bytes.Clone(record)); err == nil {
			t.Error("a replay")
		}
	})
}

// sealed is a record of a State with any type and padding.
func (s *State) sealed(kind byte, p []byte, padding int) []byte {
	body := append(append(bytes.Clone(p), kind), make([]byte, padding)...)
	// seal appends a type: the zero is one more byte of padding.
	record := s.seal(nil, 0, body)
	return record
}

// What a peer must not send is answered with the alert that the RFC names.
func TestViolations(t *testing.T) {
	for name, c := range map[string]struct {
		records func(a *State) [][]byte
		alert   uint8
	}{
		"no type":       {func(a *State) [][]byte { return [][]byte{a.seal(nil, 0, nil)} }, alertUnexpectedMessage},
		"only padding":  {func(a *State) [][]byte { return [][]byte{a.sealed(0, nil, 100)} }, alertUnexpectedMessage},
		"unknown type":  {func(a *State) [][]byte { return [][]byte{a.sealed(24, []byte("x"), 0)} }, alertUnexpectedMessage},
		"ccs inside":    {func(a *State) [][]byte { return [][]byte{a.sealed(20, []byte{1}, 0)} }, alertUnexpectedMessage},
		"plain ccs":     {func(a *State) [][]byte { return [][]byte{{20, 3, 3, 0, 1, 1}} }, alertUnexpectedMessage},
		"plain alert":   {func(a *State) [][]byte { return [][]byte{{21, 3, 3, 0, 2, 2, 40}} }, alertUnexpectedMessage},
		"oversized":     {func(a *State) [][]byte { return [][]byte{{23, 3, 3, 0x41, 1}} }, alertRecordOverflow},
		"oversized in":  {func(a *State) [][]byte { return [][]byte{a.sealed(23, make([]byte, MaxPlaintext+1), 0)} }, alertRecordOverflow},
		"long alert":    {func(a *State) [][]byte { return [][]byte{a.sealed(21, []byte{1, 0, 0}, 0)} }, alertDecodeError},
		"empty message": {func(a *State) [][]byte { return [][]byte{a.sealed(22, nil, 0)} }, alertUnexpectedMessage},
		"hello":         {func(a *State) [][]byte { return [][]byte{a.sealed(22, []byte{1, 0, 0, 1, 0}, 0)} }, alertUnexpectedMessage},
		"ticket":        {func(a *State) [][]byte { return [][]byte{a.sealed(22, []byte{4, 0, 0, 1, 0}, 0)} }, alertUnexpectedMessage},
		"update of 2":   {func(a *State) [][]byte { return [][]byte{a.sealed(22, []byte{24, 0, 0, 2, 0, 0}, 0)} }, alertDecodeError},
		"update with 2": {func(a *State) [][]byte { return [][]byte{a.sealed(22, []byte{24, 0, 0, 1, 2}, 0)} }, alertIllegalParameter},
		"behind update": {func(a *State) [][]byte { return [][]byte{a.sealed(22, []byte{24, 0, 0, 1, 0, 24}, 0)} }, alertUnexpectedMessage},
		"half an update": {func(a *State) [][]byte {
			return [][]byte{a.sealed(22, []byte{24, 0, 0}, 0), a.sealed(23, []byte("x"), 0)}
		}, alertUnexpectedMessage},
		"nothing, often": {func(a *State) (all [][]byte) {
			for range maxIdle + 1 {
				all = append(all, a.sealed(23, nil, 0))
			}
			return all
		}, alertUnexpectedMessage},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(tls.TLS_AES_128_GCM_SHA256) // a client sends
			var err error
			for _, record := range c.records(a) {
				if _, _, _, err = b.Open(nil, record); err != nil {
					break
				}
			}
			var e *Error
			if !errors.As(err, &e) || e.Alert != c.alert {
				t.Fatalf("%v, want alert %d", err, c.alert)
			}
			_, _, _, err = a.Open(nil, b.AppendAlert(nil, err))
			if err != tls.AlertError(c.alert) {
				t.Errorf("the alert came as %v", err)
			}
		})
	}
}

// Key updates of both sides, at once and asked for, in pieces, in every place: all data arrives, in
// order. So does padded data, and late tickets are dropped.
func TestRandomOperations(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		client := operate(t, id, mathrand.New(mathrand.NewPCG(1, uint64(id))), *operations)
		if client.DroppedTickets() == 0 {
			t.Error("no ticket was dropped")
		}
	})
}

// FuzzOperations is TestRandomOperations with operations that are found.
func FuzzOperations(f *testing.F) {
	f.Add([]byte("some operations"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		for id := range suites {
			source := &choiceSource{choices, mathrand.NewPCG(1, 1)}
			operate(t, id, mathrand.New(source), min(1000, 4*len(choices)))
		}
	})
}

// choiceSource is a source of numbers of which somebody has chosen the first.
type choiceSource struct {
	chosen []byte
	more   *mathrand.PCG
}

func (c *choiceSource) Uint64() uint64 {
	if len(c.chosen) == 0 {
		return c.more.Uint64()
	}
	n := uint64(c.chosen[0]) << 56 // of which rand makes small numbers
	c.chosen = c.chosen[1:]
	return n | c.more.Uint64()>>8
}

// operate has two States do whatever r says, and compares what arrives with what was sent.
func operate(t *testing.T, id uint16, r *mathrand.Rand, operations int) (client *State) {
	client, server := pair(id)
	ends := []*State{client, server}
	var under, want [2][]byte // on its way to the end, and what it carries
	for range operations {
		i := r.IntN(2)
		s, peer := ends[i], 1-i
		switch r.IntN(6) {
		case 0, 1:
			data := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(300))
			under[peer], _ = s.Put(under[peer], data) // which what comes next may be added to
			want[peer] = append(want[peer], data...)
		case 2:
			under[peer] = s.AppendKeyUpdate(under[peer])
		case 3: // asks for one
			under[peer] = s.Seal(under[peer])
			under[peer] = append(under[peer], s.sealed(22, []byte{24, 0, 0, 1, 1}, r.IntN(3))...)
			s.next(&s.out)
		case 4:
			if i == 1 { // a server's ticket, in two records
				ticket := append([]byte{4, 0, 1, 0}, make([]byte, 256)...)
				cut := 1 + r.IntN(len(ticket)-2)
				under[peer] = s.Seal(under[peer])
				under[peer] = append(under[peer], s.sealed(22, ticket[:cut], 0)...)
				under[peer] = append(under[peer], s.sealed(22, ticket[cut:], 0)...)
			}
		case 5:
			s.Rest()
		}
		if r.IntN(2) == 0 {
			continue
		}
		under[i] = ends[peer].Seal(under[i])
		for len(under[i]) > 0 && r.IntN(3) > 0 {
			n, data, answer, err := s.Open(make([]byte, r.IntN(600)), under[i])
			if err != nil || n == 0 {
				t.Fatalf("%d, %v", n, err)
			}
			if !bytes.HasPrefix(want[i], data) {
				t.Fatal("not what was sent")
			}
			want[i], under[i] = want[i][len(data):], under[i][n:]
			if answer {
				under[peer] = s.AppendKeyUpdate(under[peer])
			}
			if len(data) == 0 {
				s.idle = 0 // there are more of these than is reasonable
			}
		}
	}
	return client
}

// FuzzOpen gives a State anything: it never panics, and after an error it takes nothing more.
func FuzzOpen(f *testing.F) {
	a, _ := pair(tls.TLS_AES_128_GCM_SHA256)
	record, _ := a.Append(nil, []byte("hello"))
	f.Add(record, []byte{22, 24, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, raw, inner []byte) {
		a, b := pair(tls.TLS_AES_128_GCM_SHA256)
		if len(inner) > 0 && len(inner) <= MaxPlaintext { // well sealed, whatever it is
			b.Open(nil, a.sealed(inner[0], inner[1:], int(inner[0]%4)))
		}
		_, _, _, err := b.Open(nil, raw)
		if err == nil {
			return
		}
		if n, data, _, again := b.Open(nil, raw); again != io.EOF || n != 0 || data != nil {
			t.Errorf("behind %v: %d, %q, %v", err, n, data, again)
		}
	})
}

// A key is changed long before it has sealed as much as it may.
func TestKeyLimit(t *testing.T) {
	a, b := pair(tls.TLS_CHACHA20_POLY1305_SHA256)
	a.out.seq, b.in.seq = keyLimit, keyLimit
	before := bytes.Clone(a.keysOf(&a.out))
	records, _ := a.Append(nil, []byte("hello"))
	if bytes.Equal(a.keysOf(&a.out), before) || a.out.seq != 1 {
		t.Error("the key hasn't changed")
	}
	n, data, answer, err := b.Open(nil, records)
	if err != nil || len(data) > 0 || answer {
		t.Fatal(err)
	}
	if _, data, _, err := b.Open(nil, records[n:]); err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
}

// After a KeyUpdate that crypto/tls has seen the connection stays with it, as after anything that
// isn't understood.
func TestStaysWithCryptoTLS(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *wire)
		why   Reason
	}{
		"KeyUpdate": {func(w *wire) {
			s := newState(suites[w.suite], identity{}, new(half), w.c.peers())
			w.c.Received(s.AppendKeyUpdate(nil), false)
		}, ChangedKeys},
		"not counted": {func(w *wire) { w.c.Received([]byte{23, 3, 3, 0, 1, 0}, false) }, Unclear},
		"half":        {func(w *wire) { w.c.Sent([]byte{23, 3, 3, 0, 1}) }, Unclear},
	} {
		t.Run(name, func(t *testing.T) {
			w, own, _ := shake(t, false, nil)
			if c.spoil(w); w.c.Why() != c.why {
				t.Errorf("the reason is %d", w.c.Why())
			}
			cs := own.ConnectionState()
			if _, err := w.c.State(&cs); err == nil {
				t.Error("it was taken over")
			}
		})
	}
	t.Run("TLS 1.2", func(t *testing.T) {
		w, _, _ := shake(t, true, func(client, _ *tls.Config) { client.MaxVersion = tls.VersionTLS12 })
		if w.begun || w.c.Why() != OldVersion {
			t.Errorf("it may be taken over: %v, reason %d", w.begun, w.c.Why())
		}
	})
}

// A KeyLogWriter of the user's gets its lines, and nothing of a handshake is left behind.
func TestUsersKeyLog(t *testing.T) {
	var log bytes.Buffer
	w, _, _ := shake(t, true, func(client, _ *tls.Config) { client.KeyLogWriter = &log })
	if n := strings.Count(log.String(), "_TRAFFIC_SECRET_0 "); n != 2 {
		t.Errorf("%d lines: %s", n, log.String())
	}
	w.c.captures.Range(func(any, any) bool { t.Error("a Capture is left"); return false })
}

// What is known of the peer's certificate stays.
func TestPeer(t *testing.T) {
	s, _, _ := compactedCounting(t, true, nil)
	p, ok := s.Peer()
	if !ok || !p.Verified || len(p.Names) != 1 || p.Names[0] != "mail.test" || p.SHA256 == [32]byte{} {
		t.Errorf("%+v", p)
	}
	s, _, _ = compactedCounting(t, false, nil)
	if _, ok := s.Peer(); ok {
		t.Error("the client has shown none")
	}
	s.Wipe()
	if !bytes.Equal(s.keys, make([]byte, len(s.keys))) {
		t.Error("secrets are left")
	}
}
