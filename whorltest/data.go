package whorltest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// source is an endless stream of bytes that anybody can make again from its name.
type source struct{ *rand.ChaCha8 }

func newSource(name string) source {
	var seed [32]byte
	copy(seed[:], name)
	return source{rand.NewChaCha8(seed)}
}

// take returns the next n bytes.
func (s source) take(n int) []byte {
	p := make([]byte, n)
	s.Read(p)
	return p
}

// send writes total bytes of a source in pieces of 1 to most bytes.
func send(conn net.Conn, name string, total, most int) error {
	from, sizes := newSource(name), rand.New(newSource("sizes of "+name).ChaCha8)
	for sent := 0; sent < total; {
		piece := from.take(min(1+sizes.IntN(most), total-sent))
		n, err := conn.Write(piece)
		sent += n
		if err == nil && n != len(piece) {
			err = fmt.Errorf("%d bytes of %d were taken without an error", n, len(piece))
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", sent, err)
		}
	}
	return nil
}

// receive reads total bytes, in pieces of up to most bytes, and compares them with the source.
func receive(conn net.Conn, name string, total, most int) error {
	c, sizes := newChecker(name), rand.New(newSource("sizes of reading "+name).ChaCha8)
	buf := make([]byte, most)
	for c.n < total {
		n, err := conn.Read(buf[:min(1+sizes.IntN(most), total-c.n)])
		if _, wrong := c.Write(buf[:n]); wrong != nil {
			return wrong
		}
		if err != nil && (err != io.EOF || c.n < total) {
			return fmt.Errorf("after %d bytes: %w", c.n, err)
		}
	}
	return nil
}

// checker is a writer that wants to get a source.
type checker struct {
	from source
	n    int
}

func newChecker(name string) *checker { return &checker{from: newSource(name)} }

func (c *checker) Write(p []byte) (int, error) {
	if want := c.from.take(len(p)); !bytes.Equal(p, want) {
		i := 0
		for p[i] == want[i] {
			i++
		}
		return 0, fmt.Errorf("byte %d of the stream is %#x, want %#x", c.n+i, p[i], want[i])
	}
	c.n += len(p)
	return len(p), nil
}

// receiveAll reads to the end of the stream, which must come after total bytes of the source.
func receiveAll(conn net.Conn, name string, total int) error {
	if err := receive(conn, name, total, 64<<10); err != nil {
		return err
	}
	return wantEOF(conn)
}

// wantEOF reads, twice, and must get io.EOF.
func wantEOF(conn net.Conn) error {
	for range 2 {
		var p [16]byte
		if n, err := conn.Read(p[:]); n != 0 || err != io.EOF {
			return fmt.Errorf("at the end, Read returned %d, %v; want 0, EOF", n, err)
		}
	}
	return nil
}
