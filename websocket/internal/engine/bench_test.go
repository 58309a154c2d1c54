package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A read of 64 KiB with frames of a client, handled as a server would.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{64, 4 << 10} {
		for _, op := range []Opcode{Text, Binary} {
			b.Run(fmt.Sprintf("%s/%d", opcodes[op], size), func(b *testing.B) {
				one := AppendMessage(nil, Client, op, bytes.Repeat([]byte("x"), size), testMask)
				source := bytes.Repeat(one, 64<<10/len(one))
				p := Params{Role: Server, MaxMessage: 1 << 20}
				benchmarkReceive(b, &p, source, 64<<10/len(one), size, len(source))
			})
		}
	}
}

// Frames that are cut: reads of 1000 bytes.
func BenchmarkReceiveCut(b *testing.B) {
	one := AppendMessage(nil, Client, Text, bytes.Repeat([]byte("x"), 4<<10), testMask)
	p := Params{Role: Server, MaxMessage: 1 << 20}
	benchmarkReceive(b, &p, bytes.Repeat(one, 15), 15, 4<<10, 1000)
}

// benchmarkReceive reports the time of one message. The bytes are copied before each round, as
// unmasking changes them.
func benchmarkReceive(b *testing.B, p *Params, source []byte, messages, size, cut int) {
	in := make([]byte, len(source))
	var r Receiver
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += messages {
		copy(in, source)
		got := 0
		for rest := in; len(rest) > 0; {
			read := rest[:min(cut, len(rest))]
			rest = rest[len(read):]
			for {
				ev, n, err := r.Next(p, read)
				if err != nil {
					b.Fatal(err)
				}
				if read = read[n:]; ev.Kind == None {
					break
				}
				got++
			}
		}
		if got != messages {
			b.Fatal(got)
		}
	}
}

func BenchmarkReceivePings(b *testing.B) {
	one := AppendMessage(nil, Client, Ping, make([]byte, 125), testMask)
	p := Params{Role: Server}
	benchmarkReceive(b, &p, bytes.Repeat(one, 500), 500, 125, 500*len(one))
}

func BenchmarkInflate1KiB(b *testing.B) {
	for _, takeover := range []bool{false, true} {
		b.Run(fmt.Sprintf("takeover=%v", takeover), func(b *testing.B) {
			data := []byte(words(rand.New(rand.NewPCG(1, 1)), 1024))
			d := &Deflate{SendBits: 15, ReceiveBits: 15}
			var s Sender
			one := s.AppendCompressed(nil, &Params{Role: Client, Deflate: d}, Text, data, testMask)
			p := Params{Role: Server, MaxMessage: 1 << 20}
			p.Deflate = &Deflate{ReceiveBits: 15, ReceiveTakeover: takeover}
			benchmarkReceive(b, &p, one, 1, len(data), len(one))
		})
	}
}

// Messages that differ, as a chat's do.
func BenchmarkDeflate(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{100, 1024} {
		var messages [64][]byte
		for i := range messages {
			messages[i] = []byte(words(random, size))
		}
		for _, d := range []Deflate{
			{SendBits: 15}, {SendBits: 10}, {SendBits: 9},
			{SendBits: 15, SendTakeover: true}, {SendBits: 12, SendTakeover: true},
			{SendBits: 10, SendTakeover: true},
		} {
			name := fmt.Sprintf("%d/bits=%d,takeover=%v", size, d.SendBits, d.SendTakeover)
			b.Run(name, func(b *testing.B) {
				p := Params{Role: Server, Deflate: &d}
				var s Sender
				dst := make([]byte, 0, 2048)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				sum, n := 0, 0
				for b.Loop() {
					dst = s.AppendCompressed(dst[:0], &p, Text, messages[n%len(messages)], testMask)
					sum += len(dst)
					n++
				}
				b.ReportMetric(float64(sum)/float64(n), "B/message")
			})
		}
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	for role, name := range roleNames {
		b.Run(name, func(b *testing.B) {
			data := bytes.Repeat([]byte("x"), 64)
			dst := make([]byte, 0, 128)
			b.SetBytes(64)
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendMessage(dst[:0], role, Text, data, testMask)
			}
		})
	}
}
