package compact

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"
)

// A record that is cut at any byte isn't touched until the rest has come, and nothing is said of
// it.
func TestCutAtEveryByte(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		record, _ := a.Append(nil, []byte("hello"))
		for i := range record {
			part := bytes.Clone(record[:i])
			n, data, answer, err := b.Open(nil, part)
			if n != 0 || data != nil || answer || err != nil || !bytes.Equal(part, record[:i]) {
				t.Fatalf("cut at %d: %d, %q, %v, %v", i, n, data, answer, err)
			}
		}
		if n, data, _, err := b.Open(nil, record); n != len(record) || string(data) != "hello" ||
			err != nil {
			t.Errorf("%d, %q, %v", n, data, err)
		}
	})
}

// What is appended to a record belongs to the next one, and if the length is made to fit the record
// is a forgery.
func TestAppendedData(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		for extra := range 40 {
			a, b := pair(id)
			record, _ := a.Append(nil, []byte("hello"))
			size := len(record)
			record = append(record, make([]byte, extra+1)...)
			longer := *b
			forged := bytes.Clone(record)
			forged[4] += byte(extra + 1)
			refused(t, &longer, forged, alertBadRecordMAC)
			if n, data, _, err := b.Open(nil, record); n != size || string(data) != "hello" ||
				err != nil {
				t.Fatalf("%d, %q, %v", n, data, err)
			}
			if rest := record[size:]; len(rest) >= HeaderSize {
				refused(t, b, rest, alertUnexpectedMessage)
			}
		}
	})
}

// refused checks that b is answered with an alert, and that nothing is taken afterwards.
func refused(t *testing.T, s *State, b []byte, alert uint8) {
	t.Helper()
	n, data, answer, err := s.Open(nil, bytes.Clone(b))
	var e *Error
	if n != 0 || data != nil || answer || !errors.As(err, &e) || e.Alert != alert {
		t.Errorf("%d, %q, %v, %v; want alert %d", n, data, answer, err, alert)
	}
	if _, _, _, again := s.Open(nil, bytes.Clone(b)); again != io.EOF {
		t.Errorf("it goes on: %v", again)
	}
}

// Of the messages of the handshake protocol only KeyUpdate is for both, and a ticket for clients:
// no other one is taken, whatever is in it, a request for a certificate included (RFC 8446, section
// 4.6.2: no client of crypto/tls offers to answer one).
func TestUnexpectedMessages(t *testing.T) {
	for kind := range 256 {
		for _, body := range [][]byte{nil, {0}, {1}, make([]byte, 300)} {
			message := append([]byte{byte(kind), 0, byte(len(body) >> 8), byte(len(body))}, body...)
			for _, cut := range []int{0, 1, 3} { // the header comes in two records
				for _, toClient := range []bool{true, false} {
					a, b := pair(tls.TLS_AES_128_GCM_SHA256)
					if toClient {
						a, b = b, a
					}
					if kind == messageKeyUpdate || kind == messageTicket && toClient {
						continue
					}
					if cut > 0 {
						if _, _, _, err := b.Open(nil, a.sealed(typeHandshake, message[:cut], 0)); err != nil {
							t.Fatal(err)
						}
					}
					refused(t, b, a.sealed(typeHandshake, message[cut:], 0), alertUnexpectedMessage)
				}
			}
		}
	}
}

// A KeyUpdate ends its record (RFC 8446, section 5.1), says 0 or 1, and may come in pieces.
func TestKeyUpdateAsItComes(t *testing.T) {
	update := func(ask byte) []byte { return []byte{messageKeyUpdate, 0, 0, 1, ask} }
	for ask := range 256 {
		for cut := range 5 {
			a, b := pair(tls.TLS_CHACHA20_POLY1305_SHA256)
			if cut > 0 {
				b.Open(nil, a.sealed(typeHandshake, update(byte(ask))[:cut], 1))
			}
			record := a.sealed(typeHandshake, update(byte(ask))[cut:], 2)
			if ask > 1 {
				refused(t, b, record, alertIllegalParameter)
				continue
			}
			old := bytes.Clone(b.keysOf(&b.in))
			_, _, answer, err := b.Open(nil, record)
			if err != nil || answer != (ask == 1) || bytes.Equal(b.keysOf(&b.in), old) || b.in.seq != 0 {
				t.Errorf("%d, cut at %d: %v, %v", ask, cut, answer, err)
			}
			// What is still under the old key isn't taken any more.
			refused(t, b, a.sealed(typeData, []byte("x"), 0), alertBadRecordMAC)
		}
	}
	for name, behind := range map[string][]byte{
		"half a message": {messageKeyUpdate}, "another": update(0), "a ticket": {messageTicket, 0, 0, 0},
	} {
		a, b := pair(tls.TLS_AES_256_GCM_SHA384)
		a, b = b, a // to the client
		record := a.sealed(typeHandshake, append(update(0), behind...), 0)
		t.Log(name)
		refused(t, b, record, alertUnexpectedMessage)
	}
	// In front of it, a ticket may be.
	a, b := pair(tls.TLS_AES_256_GCM_SHA384)
	record := b.sealed(typeHandshake, append([]byte{messageTicket, 0, 0, 1, 0}, update(1)...), 0)
	if _, _, answer, err := a.Open(nil, record); err != nil || !answer || a.DroppedTickets() != 1 {
		t.Errorf("%v, %v, %d tickets", answer, err, a.DroppedTickets())
	}
}

// An alert is alone in its record, and whole; all but close_notify and user_canceled end the
// connection, whatever level they have.
func TestAlertsAsTheyCome(t *testing.T) {
	for _, b := range [][]byte{{}, {2}, {2, 40, 2}, {1, 0, 1, 0}, {2, 40, 2, 40}} {
		near, far := pair(tls.TLS_AES_128_GCM_SHA256)
		refused(t, far, near.sealed(typeAlert, b, 0), alertDecodeError)
	}
	for level := range 4 {
		for alert := range 256 {
			near, far := pair(tls.TLS_AES_128_GCM_SHA256)
			_, data, _, err := far.Open(nil, near.sealed(typeAlert, []byte{byte(level), byte(alert)}, 3))
			var want error = tls.AlertError(alert)
			switch alert {
			case alertCloseNotify:
				want = io.EOF
			case alertUserCanceled:
				want = nil
			}
			if err != want || data != nil {
				t.Errorf("level %d, alert %d: %q, %v", level, alert, data, err)
			}
			if len(far.AppendAlert(nil, err)) > 0 {
				t.Errorf("alert %d is answered with one", alert)
			}
		}
	}
}

// A record is as long as it may be, padding included, and no longer.
func TestLongestRecord(t *testing.T) {
	for _, padding := range []int{0, 1, MaxPlaintext - 1} {
		size := MaxPlaintext - 1 - padding
		a, b := pair(tls.TLS_AES_128_GCM_SHA256)
		record := a.sealed(typeData, make([]byte, size), padding) // and a byte that sealed adds
		if _, data, _, err := b.Open(nil, record); err != nil || len(data) != size {
			t.Errorf("%d and %d of padding: %d, %v", size, padding, len(data), err)
		}
		refused(t, b, a.sealed(typeData, make([]byte, size), padding+1), alertRecordOverflow)
	}
	_, b := pair(tls.TLS_AES_128_GCM_SHA256)
	if n, _, _, err := b.Open(nil, []byte{typeData, 3, 3, 0x41, 0}); n != 0 || err != nil {
		t.Errorf("2^14+256: %v", err)
	}
	refused(t, b, []byte{typeData, 3, 3, 0x41, 1}, alertRecordOverflow)
}

// Both sides ask for new keys at once, again and again, with data beside: each request has one
// answer, which asks for nothing, and all data arrives. Without data in between it is refused.
func TestKeyUpdateStorm(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		ends, answers := []*State{a, b}, [2]int{}
		var under [2][]byte
		for range 1000 {
			for i, s := range ends {
				under[1-i] = append(
					under[1-i],
					s.sealed(typeHandshake, []byte{24, 0, 0, 1, 1}, 0)...)
				s.next(&s.out)
				under[1-i], _ = s.Append(under[1-i], []byte("x"))
			}
			for i, s := range ends {
				got := 0
				for len(under[i]) > 0 {
					n, data, answer, err := s.Open(nil, under[i])
					if err != nil {
						t.Fatal(err)
					}
					got += len(data)
					if under[i] = under[i][n:]; answer {
						answers[i]++
						under[1-i] = s.AppendKeyUpdate(under[1-i])
					}
				}
				if got != 1 {
					t.Fatalf("%d bytes have come", got)
				}
			}
		}
		if answers != [2]int{1000, 1000} {
			t.Errorf("%v answers", answers)
		}
		b.idle = 0
		for i := range maxIdle {
			if _, _, _, err := b.Open(nil, a.AppendKeyUpdate(nil)); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		refused(t, b, a.AppendKeyUpdate(nil), alertUnexpectedMessage)
	})
}

// What is put one after the other shares records, as far as it fits; whatever else is appended is
// behind it; and when the State is wiped in between, nothing of it is left.
func TestPutSharesRecords(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		var records []byte
		piece := bytes.Repeat([]byte("x"), 1000)
		for range 20 {
			records, _ = a.Put(records, piece)
		}
		records = a.AppendKeyUpdate(records)
		records, _ = a.Put(records, []byte("y"))
		records = a.AppendCloseNotify(records)
		var sizes []int
		for {
			n, data, _, err := b.Open(nil, records)
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			sizes, records = append(sizes, len(data)), records[n:]
		}
		if want := []int{MaxPlaintext, 20_000 - MaxPlaintext, 0, 1}; !slices.Equal(sizes, want) {
			t.Errorf("records of %v, want %v", sizes, want)
		}

		a, _ = pair(id)
		records, _ = a.Append(nil, []byte("sealed"))
		size := len(records)
		records, _ = a.Put(records, []byte("not sealed yet"))
		a.Wipe()
		if records = a.Seal(records); len(records) != size ||
			bytes.Contains(records[:cap(records)], []byte("not sealed yet")) {
			t.Errorf("%q", records[:cap(records)])
		}
	})
}

// A record is opened into the room that is given if that is enough for all that it may carry, and
// else where it is.
func TestOpensIntoRoom(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		for _, size := range []int{1, 100, MaxPlaintext} {
			want := bytes.Repeat([]byte("x"), size)
			for _, short := range []int{0, 1} {
				record, _ := a.Append(nil, want)
				room := make([]byte, Opened(len(record))-short)
				n, data, _, err := b.Open(room, record)
				if n != len(record) || !bytes.Equal(data, want) || err != nil {
					t.Fatalf("%d, %.20q, %v", n, data, err)
				}
				if into := &data[0] == &room[0]; into != (short == 0) {
					t.Errorf("%d bytes, %d short: into the room is %v", size, short, into)
				}
			}
		}
	})
}

// The keys of a busy connection are expanded once, and again only after it has rested or its keys
// have changed.
func TestBusyNeverExpandsAgain(t *testing.T) {
	eachSuite(t, func(t *testing.T, id uint16) {
		a, b := pair(id)
		trip := func() (*live, *live) {
			record, _ := a.Append(nil, []byte("hello"))
			if _, _, _, err := b.Open(nil, record); err != nil {
				t.Fatal(err)
			}
			return a.out.live, b.in.live
		}
		out, in := trip()
		for range 1000 {
			if again, alsoAgain := trip(); again != out || alsoAgain != in {
				t.Fatal("they are expanded again")
			}
		}
		a.Rest()
		b.Rest()
		if a.out.live != nil || b.in.live != nil {
			t.Error("who rests keeps expanded keys")
		}
		trip()
	})
}

// The keys for tickets go on to change, also where the configuration is chosen for each connection:
// what they were when it was chosen first isn't kept.
func TestTicketKeysOfAChosenConfig(t *testing.T) {
	_, base := certified()
	chosen := base.Clone()
	cache := tls.NewLRUClientSessionCache(1)
	front := Config(&tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return chosen, nil },
	})
	for i, c := range []struct {
		keys [][32]byte
		want bool
	}{
		{[][32]byte{{1}}, false}, {[][32]byte{{1}}, true}, {[][32]byte{{2}, {1}}, true},
		{[][32]byte{{2}}, true}, {[][32]byte{{3}}, false},
	} {
		chosen.SetSessionTicketKeys(c.keys)
		near, far := buffered(t)
		client, _ := certified()
		client = client.Clone()
		client.ClientSessionCache = cache
		own, other := tls.Server(near, front), tls.Client(far, client)
		go func() {
			own.Write([]byte("x"))
			own.Close()
		}()
		if _, err := io.ReadAll(other); err != nil {
			t.Fatal(err)
		}
		if got := other.ConnectionState().DidResume; got != c.want {
			t.Errorf("connection %d: resumed is %v", i, got)
		}
	}
}

// Errors are fixed texts: there is nothing of a key in them, nor of what has come.
func TestErrorsTellNoSecrets(t *testing.T) {
	texts := make(map[string]bool)
	for range 20 {
		a, b := pair(tls.TLS_AES_128_GCM_SHA256)
		record, _ := a.Append(nil, bytes.Repeat([]byte{byte(len(texts)) + 65}, 50))
		record[20]++
		_, _, _, err := b.Open(nil, record)
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%v", texts)
	}
}
