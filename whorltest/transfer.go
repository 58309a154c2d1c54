package whorltest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

var transferTests = []test{
	{"OneByteAtATime", testOneByte},
	{"ReadReturnsWhatThereIs", testReadReturns},
	{"EmptyOperations", testEmpty},
	{"WriteKeepsNothingOfTheBuffer", testBufferReuse},
	{"StalledWriterGoesOn", testBackPressure},
	{"ReadFrom", testReadFrom},
	{"WriteTo", testWriteTo},
	{"Addresses", testAddresses},
	{"SyscallConn", testSyscallConn},
}

// One-byte feeds, and a large write that is read byte by byte.
func testOneByte(p *pair) {
	const few, many = 2_000, 40_000
	p.all(map[string]func() error{
		"a's writer": func() error { return send(p.a, "bytes", few, 1) },
		"b's reader": func() error { return receive(p.b, "bytes", few, 100) },
		"b's writer": func() error { return send(p.b, "block", many, many) },
		"a's reader": func() error { return receive(p.a, "block", many, 1) },
	})
}

// A Read doesn't wait until its buffer is full.
func testReadReturns(p *pair) {
	p.do("writing five bytes", func() error { return send(p.a, "five", 5, 5) })
	p.do("reading them", func() error {
		p.b.SetReadDeadline(p.deadline())
		c := newChecker("five")
		for buf := make([]byte, 1<<20); c.n < 5; {
			n, err := p.b.Read(buf)
			if err != nil {
				return err
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reading into nothing and writing nothing changes nothing.
func testEmpty(p *pair) {
	p.do("empty operations", func() error {
		for _, conn := range []net.Conn{p.a, p.b} {
			if n, err := conn.Write(nil); n != 0 || err != nil {
				return fmt.Errorf("writing nothing returned %d, %v", n, err)
			}
			if n, err := conn.Read(nil); n != 0 || err != nil {
				return fmt.Errorf("reading into nothing returned %d, %v", n, err)
			}
		}
		if err := send(p.a, "after", 100, 100); err != nil {
			return err
		}
		if n, err := p.b.Read([]byte{}); n != 0 || err != nil {
			return fmt.Errorf("reading into nothing, with something there, returned %d, %v", n, err)
		}
		return receive(p.b, "after", 100, 100)
	})
}

// The writer's buffer is its own again when Write has returned, and is the same as before.
func testBufferReuse(p *pair) {
	const rounds, size = 200, 5_000
	p.all(map[string]func() error{
		"writer": func() error {
			from, buf := newSource("reused"), make([]byte, size)
			for range rounds {
				copy(buf, from.take(size))
				before := bytes.Clone(buf)
				if _, err := p.a.Write(buf); err != nil {
					return err
				}
				if !bytes.Equal(buf, before) {
					return fmt.Errorf("the buffer was changed by Write")
				}
				clear(buf)
			}
			return nil
		},
		"reader": func() error { return receive(p.b, "reused", rounds*size, 64<<10) },
	})
}

// A writer that has had to stop, because nobody reads, goes on when somebody does.
func testBackPressure(p *pair) {
	const total = 16 << 20
	writer := p.waiting("writer", func() error { return send(p.a, "flood", total, 1<<20) })
	p.do("reader", func() error { return receive(p.b, "flood", total, 1<<20) })
	writer.succeed(p)
}

// io.Copy to the connection, which calls ReadFrom if there is one: files, from where they stand and
// up to a limit, and other readers.
func testReadFrom(p *pair) {
	const total, skip, limit = 1 << 20, 1000, 100_000
	content := newSource("file").take(total)
	name := filepath.Join(p.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		p.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		p.Fatal(err)
	}
	defer file.Close()
	type source struct {
		what string
		from io.Reader
		want []byte
		at   int64 // where the file stands afterwards
	}
	sources := []source{
		{"a part of a file", io.LimitReader(file, limit), content[skip : skip+limit], skip + limit},
		{"the rest of the file", file, content[skip+limit:], total},
		{"the end of the file", file, nil, total},
		{"less than the limit", io.LimitReader(file, limit), nil, total},
		{"a string", struct{ io.Reader }{strings.NewReader("abc")}, []byte("abc"), total},
	}
	var everything []byte
	for _, s := range sources {
		everything = append(everything, s.want...)
	}
	if _, err := file.Seek(skip, io.SeekStart); err != nil {
		p.Fatal(err)
	}
	p.all(map[string]func() error{
		"writer": func() error {
			for _, s := range sources {
				n, err := io.Copy(p.a, s.from)
				if n != int64(len(s.want)) || err != nil {
					return fmt.Errorf(
						"%s: copied %d bytes, %v; want %d",
						s.what,
						n,
						err,
						len(s.want),
					)
				}
				if at, err := file.Seek(0, io.SeekCurrent); at != s.at || err != nil {
					return fmt.Errorf(
						"%s: the file stands at %d, %v; want %d",
						s.what,
						at,
						err,
						s.at,
					)
				}
			}
			return nil
		},
		"reader": func() error {
			got := make([]byte, len(everything))
			if n, err := io.ReadFull(p.b, got); err != nil {
				return fmt.Errorf("after %d bytes: %w", n, err)
			}
			if !bytes.Equal(got, everything) {
				return fmt.Errorf("what arrived is not what was sent")
			}
			return nil
		},
	})
}

// io.Copy from the connection, which calls WriteTo if there is one, up to the end of the stream.
func testWriteTo(p *pair) {
	const total = 1 << 20
	p.all(map[string]func() error{
		"writer": func() error {
			if err := send(p.a, "copied", total, 30_000); err != nil {
				return err
			}
			return p.a.Close()
		},
		"reader": func() error {
			n, err := io.Copy(newChecker("copied"), p.b)
			if n != total || err != nil {
				return fmt.Errorf("copied %d bytes, %w; want %d", n, err, total)
			}
			return nil
		},
	})
}

// Addresses are there from the beginning, stay the same, and outlive Close.
func testAddresses(p *pair) {
	p.do("looking at addresses", func() error {
		for _, conn := range []net.Conn{p.a, p.b} {
			var before [2]string
			for i := range 2 {
				local, remote := conn.LocalAddr(), conn.RemoteAddr()
				if local == nil || remote == nil {
					return fmt.Errorf("%T has addresses %v, %v", conn, local, remote)
				}
				now := [2]string{
					local.Network() + " " + local.String(),
					remote.Network() + " " + remote.String(),
				}
				if i == 0 {
					before = now
					conn.Close()
				} else if now != before {
					return fmt.Errorf("addresses were %q, and are %q after Close", before, now)
				}
			}
		}
		return nil
	})
}

// The descriptor can be looked at while the connection is open.
func testSyscallConn(p *pair) {
	conn, ok := p.a.(syscall.Conn)
	if !ok {
		return
	}
	p.do("looking at the descriptor", func() error {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		number := -1
		if err := raw.Control(func(fd uintptr) { number = int(fd) }); err != nil || number < 0 {
			return fmt.Errorf("got descriptor %d, %v from Control", number, err)
		}
		p.a.Close()
		if err := raw.Control(func(uintptr) {}); err == nil {
			return fmt.Errorf("after Close, Control succeeded")
		}
		return nil
	})
}
