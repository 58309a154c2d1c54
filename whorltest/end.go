package whorltest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

var endTests = []test{
	{"HalfClose", testHalfClose},
	{"HalfCloseBothWays", testHalfCloseBothWays},
	{"WriteAfterCloseWrite", testWriteAfterCloseWrite},
	{"CloseReadEndsReaders", testCloseRead},
	{"CloseDeliversWhatWasWritten", testCloseDelivers},
	{"Truncation", testTruncation},
	{"PeerClosesUnderAReader", testPeerCloses},
	{"PeerClosesUnderAWriter", testPeerClosesUnderWriter},
	{"CloseWakesAllWhoWait", testCloseWakes},
	{"AfterClose", testAfterClose},
}

type (
	closeWriter interface{ CloseWrite() error }
	closeReader interface{ CloseRead() error }
)

// One end says that it has said everything, and still hears the other's answer.
func testHalfClose(p *pair) {
	a, ok := p.a.(closeWriter)
	if !ok {
		return
	}
	const total = 300_000
	p.all(map[string]func() error{
		"a": func() error {
			if err := send(p.a, "question", total, 50_000); err != nil {
				return err
			}
			if err := a.CloseWrite(); err != nil {
				return err
			}
			return receiveAll(p.a, "answer", total)
		},
		"b": func() error {
			if err := receiveAll(p.b, "question", total); err != nil {
				return err
			}
			if err := send(p.b, "answer", total, 50_000); err != nil {
				return err
			}
			return p.b.Close()
		},
	})
}

// Both ends half-close, and both hear everything.
func testHalfCloseBothWays(p *pair) {
	a, ok := p.a.(closeWriter)
	b, also := p.b.(closeWriter)
	if !ok || !also {
		return
	}
	const total = 100_000
	side := func(conn net.Conn, half closeWriter, said string) func() error {
		return func() error {
			if err := send(conn, said, total, 10_000); err != nil {
				return err
			}
			return half.CloseWrite()
		}
	}
	p.all(map[string]func() error{
		"a's writer": side(p.a, a, "a to b"),
		"b's writer": side(p.b, b, "b to a"),
		"a's reader": func() error { return receiveAll(p.a, "b to a", total) },
		"b's reader": func() error { return receiveAll(p.b, "a to b", total) },
	})
}

func testWriteAfterCloseWrite(p *pair) {
	a, ok := p.a.(closeWriter)
	if !ok {
		return
	}
	p.do("writing after CloseWrite", func() error {
		if err := a.CloseWrite(); err != nil {
			return err
		}
		if n, err := p.a.Write([]byte("more")); n != 0 || err == nil {
			return fmt.Errorf("after CloseWrite, Write returned %d, %v", n, err)
		}
		return wantEOF(p.b)
	})
}

// Who waits for input when the reading side is closed gets the end of the stream, or an error.
func testCloseRead(p *pair) {
	a, ok := p.a.(closeReader)
	if !ok {
		return
	}
	reader := p.waiting("reader", func() error { return wantEnd(p.a) })
	p.do("CloseRead", a.CloseRead)
	reader.succeed(p)
	p.do("reading afterwards", func() error { return wantEnd(p.a) })
}

// wantEnd reads and must get an error.
func wantEnd(conn net.Conn) error {
	if n, err := conn.Read(make([]byte, 10)); n != 0 || err == nil {
		return fmt.Errorf("got %d bytes, %v; want an error", n, err)
	}
	return nil
}

// What was written before Close arrives, however much it is and however slow the reader.
func testCloseDelivers(p *pair) {
	const total = 2 << 20
	writer := p.waiting("writer", func() error {
		if err := send(p.a, "last words", total, 1<<20); err != nil {
			return err
		}
		return p.a.Close()
	})
	p.do("reader", func() error { return receiveAll(p.b, "last words", total) })
	writer.succeed(p)
}

// A message that is cut short by the end of the stream is told from a whole one.
func testTruncation(p *pair) {
	p.do("writing half a message", func() error {
		if err := send(p.a, "message", 10, 10); err != nil {
			return err
		}
		return p.a.Close()
	})
	p.do("reading it", func() error {
		if n, err := io.ReadFull(p.b, make([]byte, 20)); n != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("reading it all returned %d, %v; want 10, unexpected EOF", n, err)
		}
		return wantEOF(p.b)
	})
}

func testPeerCloses(p *pair) {
	reader := p.waiting("reader", func() error { return wantEOF(p.b) })
	p.do("closing the other end", p.a.Close)
	reader.succeed(p)
}

// Writing to an end that is closed fails soon, and never waits without end.
func testPeerClosesUnderWriter(p *pair) {
	const far = 256 << 20
	// Which stops when the buffers between the ends are full.
	writer := p.waiting("writer", func() error {
		err := send(p.a, "in vain", far, 1<<20)
		if err == nil || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("writing to an end that is closed: %v", err)
		}
		return nil
	})
	p.do("closing the other end", p.b.Close)
	writer.succeed(p)
}

// Close ends every operation that is under way, of those who have to wait for their turn, too.
func testCloseWakes(p *pair) {
	var waiting []*party
	for range 3 {
		waiting = append(waiting, p.waiting("reader", func() error {
			_, err := p.a.Read(make([]byte, 100))
			return wantClosed("Read", err)
		}))
		waiting = append(waiting, p.waiting("writer", func() error {
			return wantClosed("Write", send(p.a, "flood", 256<<20, 1<<20))
		}))
	}
	p.do("Close", p.a.Close)
	for _, party := range waiting {
		party.succeed(p)
	}
}

func wantClosed(what string, err error) error {
	if !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%s of a closed connection: %v, want net.ErrClosed", what, err)
	}
	return nil
}

func testAfterClose(p *pair) {
	p.do("using a closed connection", func() error {
		if err := send(p.b, "unread", 10, 10); err != nil {
			return err
		}
		if err := p.a.Close(); err != nil {
			return err
		}
		_, readErr := p.a.Read(make([]byte, 10))
		_, writeErr := p.a.Write([]byte("more"))
		if err := errors.Join(wantClosed("Read", readErr), wantClosed("Write", writeErr)); err != nil {
			return err
		}
		p.a.Close() // may say that it is closed, and must not do harm
		if err := p.a.SetDeadline(time.Now().Add(time.Hour)); err == nil {
			return errors.New("a deadline of a closed connection could be set")
		}
		return nil
	})
}
