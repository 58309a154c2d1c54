package whorltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

var concurrencyTests = []test{
	{"WritesAreNotMixed", testAtomicWrites},
	{"ManyReaders", testManyReaders},
	{"ManyPairs", testManyPairs},
}

// Several writers, each with records of many sizes: a record arrives in one piece, and those of one
// writer in order.
func testAtomicWrites(p *pair) {
	const writers, records, largest = 8, 40, 60_000
	parties := make(map[string]func() error)
	for writer := range writers {
		parties[fmt.Sprint("writer ", writer)] = func() error {
			for i := range records {
				record := make([]byte, 6+(i*7919+writer*104729)%largest)
				record[0], record[1] = byte(writer), byte(i)
				binary.BigEndian.PutUint32(record[2:], uint32(len(record)-6))
				copy(record[6:], bytes.Repeat(record[:2], len(record)))
				if n, err := p.a.Write(record); n != len(record) || err != nil {
					return fmt.Errorf("%d bytes of %d were taken, %v", n, len(record), err)
				}
			}
			return nil
		}
	}
	parties["reader"] = func() error {
		var next [writers]int
		var header [6]byte
		body := make([]byte, largest)
		for range writers * records {
			if _, err := io.ReadFull(p.b, header[:]); err != nil {
				return err
			}
			writer, i, size := int(
				header[0],
			), int(
				header[1],
			), int(
				binary.BigEndian.Uint32(header[2:]),
			)
			if writer >= writers || i != next[writer] || size > largest {
				return fmt.Errorf(
					"got record %d of writer %d, with %d bytes: records are mixed",
					i,
					writer,
					size,
				)
			}
			next[writer]++
			if _, err := io.ReadFull(p.b, body[:size]); err != nil {
				return err
			}
			if !bytes.Equal(body[:size], bytes.Repeat(header[:2], size)[:size]) {
				return fmt.Errorf("record %d of writer %d is mixed with others", i, writer)
			}
		}
		return nil
	}
	p.all(parties)
}

// Several readers share a stream: each byte comes to one of them.
func testManyReaders(p *pair) {
	const readers, total = 8, 400_000
	var mu sync.Mutex // held without waiting
	counts, want := make([]int, 256), make([]int, 256)
	for _, b := range newSource("shared").take(total) {
		want[b]++
	}
	parties := map[string]func() error{
		"writer": func() error {
			if err := send(p.a, "shared", total, 2_000); err != nil {
				return err
			}
			return p.a.Close()
		},
	}
	for reader := range readers {
		parties[fmt.Sprint("reader ", reader)] = func() error {
			for buf := make([]byte, 1000+reader); ; {
				n, err := p.b.Read(buf)
				mu.Lock()
				for _, b := range buf[:n] {
					counts[b]++
				}
				mu.Unlock()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
		}
	}
	p.all(parties)
	if !slices.Equal(counts, want) {
		p.Error("the readers haven't got every byte once")
	}
}

// Many pairs at once, each with a conversation.
func testManyPairs(p *pair) {
	const pairs, rounds, size = 20, 50, 300
	parties := make(map[string]func() error)
	for i := range pairs {
		a, b, stop := p.connect()
		defer stop()
		parties[fmt.Sprint("a", i)] = func() error {
			for round := range rounds {
				name := fmt.Sprint(i, "/", round)
				if err := send(a, name, size, size); err != nil {
					return err
				}
				if err := receive(a, "re: "+name, size, size); err != nil {
					return err
				}
			}
			return nil
		}
		parties[fmt.Sprint("b", i)] = func() error {
			for round := range rounds {
				name := fmt.Sprint(i, "/", round)
				if err := receive(b, name, size, size); err != nil {
					return err
				}
				if err := send(b, "re: "+name, size, size); err != nil {
					return err
				}
			}
			return nil
		}
	}
	p.all(parties)
}
