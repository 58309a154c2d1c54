//go:build linux

package socket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// splits cuts p in all ways into three or fewer parts.
func splits(p []byte) [][][]byte {
	var all [][][]byte
	for i := 1; i <= len(p); i++ {
		for j := i; j <= len(p); j++ {
			parts := [][]byte{p[:i], p[i:j], p[j:]}
			all = append(all, slices.DeleteFunc(parts, func(part []byte) bool { return len(part) == 0 }))
		}
	}
	return all
}

// vector makes buffers of the sizes.
func vector(sizes ...int) [][]byte {
	bufs := make([][]byte, len(sizes))
	for i, size := range sizes {
		bufs[i] = make([]byte, size)
	}
	return bufs
}

func TestVectorsOfAllShapes(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		message := []byte("abcdefg")
		for _, written := range splits(message) {
			whole := slices.Clone(written)
			if n, err := s.peer.WriteVectorAll(s.ctx, written); n != len(message) || err != nil {
				t.Fatal(n, err)
			}
			for i := range written { // the caller's slices are not cut
				if len(written[i]) != len(whole[i]) {
					t.Fatalf("%q has become %q", whole[i], written[i])
				}
			}
			got := vector(1, 4, 2)
			if n, err := s.ReadVectorAll(s.ctx, got); n != len(message) || err != nil || string(bytes.Join(got, nil)) != string(message) || len(got[1]) != 4 {
				t.Fatalf("%d, %v: %q", n, err, got)
			}
		}
		for _, read := range splits(message) {
			s.send(string(message))
			got := make([][]byte, len(read))
			for i := range read {
				got[i] = make([]byte, len(read[i]))
			}
			if n, err := s.ReadVectorAll(s.ctx, got); n != len(message) || err != nil || string(bytes.Join(got, nil)) != string(message) {
				t.Fatalf("%d, %v: %q", n, err, got)
			}
		}
	})
}

// The bytes come one at a time, and part of them were read ahead.
func TestReadVectorAllOfPieces(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("line\nabc")
		check(s, "line\n", nil)(s.line(100))
		sender, _ := runtime.Go(s.ctx, func(ctx context.Context) {
			for _, b := range []byte("defghij") {
				s.send(string(b))
				runtime.Yield(ctx)
			}
		})
		got := vector(2, 5, 1, 2)
		if n, err := s.ReadVectorAll(s.ctx, got); n != 10 || err != nil || string(bytes.Join(got, []byte{'|'})) != "ab|cdefg|h|ij" {
			t.Errorf("%d, %v: %q", n, err, got)
		}
		sender.Join(s.ctx)
	})
}

func TestReadVectorTakesWhatThereIs(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.send("line\nabc")
		check(s, "line\n", nil)(s.line(100))
		s.send("defg")
		got := vector(2, 3, 10)
		total := 0
		for total < 7 { // what was read ahead, and what TLS has, come buffer by buffer
			n, err := s.ReadVector(s.ctx, vector(2, 3, 10))
			if n == 0 || err != nil {
				t.Fatal(n, err)
			}
			total += n
		}
		s.soon()
		if n, err := s.ReadVector(s.ctx, got); n != 0 || !errors.Is(err, runtime.ErrTimeout) {
			t.Error(n, err)
		}
		s.send("hello")
		if n, err := s.ReadVectorAll(s.ctx, vector(2, 2, 2)); n != 5 || !errors.Is(err, runtime.ErrTimeout) {
			t.Error(n, err)
		}
		s.send("bye")
		s.end()
		if n, err := s.ReadVectorAll(s.ctx, vector(2, 2)); n != 3 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(n, err)
		}
		if n, err := s.ReadVectorAll(s.ctx, vector(2, 2)); n != 0 || err != io.EOF {
			t.Error(n, err)
		}
		if n, err := s.ReadVector(s.ctx, vector(2, 2)); n != 0 || err != io.EOF {
			t.Error(n, err)
		}
	})
}

func TestVectorsThatAreRefused(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		one := []byte("x")
		for _, bufs := range [][][]byte{nil, {}, {nil}, {one, {}}, {{}, one}, {one, nil, one}, slices.Repeat([][]byte{one}, 1025)} {
			n1, err1 := s.ReadVector(s.ctx, bufs)
			n2, err2 := s.ReadVectorAll(s.ctx, bufs)
			n3, err3 := s.WriteVector(s.ctx, bufs)
			n4, err4 := s.WriteVectorAll(s.ctx, bufs)
			if n1+n2+n3+n4 != 0 {
				t.Error(n1, n2, n3, n4)
			}
			for _, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, syscall.EINVAL) {
					t.Errorf("%d buffers: %v", len(bufs), err)
				}
			}
		}
		sender, _ := runtime.Go(s.ctx, func(ctx context.Context) {
			if n, err := s.peer.WriteVectorAll(ctx, slices.Repeat([][]byte{one}, 1024)); n != 1024 || err != nil {
				t.Error(n, err)
			}
		})
		sizes := slices.Repeat([]int{1}, 1024)
		if n, err := s.ReadVectorAll(s.ctx, vector(sizes...)); n != 1024 || err != nil {
			t.Error(n, err)
		}
		sender.Join(s.ctx)
	})
}

// Several MiB in elements of odd sizes, both ends through small buffers of the kernel.
func TestLargeVectors(t *testing.T) {
	overStreams(t, func(t *testing.T, s stream) {
		s.SetBuffers(8<<10, 8<<10)
		s.peer.SetBuffers(8<<10, 8<<10)
		sent := pattern(3 << 20)
		var written [][]byte
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+len(rest)%9973)
			written = append(written, rest[:n])
			rest = rest[n:]
		}
		if len(written) > 1024 {
			t.Fatal(len(written))
		}
		sender, _ := runtime.Go(s.ctx, func(ctx context.Context) {
			if n, err := s.peer.WriteVectorAll(ctx, written); n != len(sent) || err != nil {
				t.Error(n, err)
			}
		})
		got := make([]byte, len(sent))
		bufs := slices.Collect(slices.Chunk(got, 7919))
		if n, err := s.ReadVectorAll(s.ctx, bufs); n != len(sent) || err != nil {
			t.Error(n, err)
		}
		sender.Join(s.ctx)
		mustBe(t, got, sent)
	})
}

// A peer that reads nothing: what went before the time was over is counted.
func TestWriteVectorTimesOut(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, "unix", secure)
				s.SetTimeouts(socket.Timeouts{Write: 20 * time.Millisecond})
				sent := pattern(8 << 20)
				n, err := s.WriteVectorAll(ctx, slices.Collect(slices.Chunk(sent, 100_000)))
				if n <= 0 || n >= len(sent) || !errors.Is(err, runtime.ErrTimeout) {
					t.Error(n, err)
				}
				if n, err := s.WriteVector(ctx, [][]byte{sent}); n != 0 || !errors.Is(err, runtime.ErrTimeout) {
					t.Error(n, err)
				}
				s.Close()
				peers.Go(func() {
					defer peer.Close()
					got, err := io.ReadAll(peer)
					if err != nil || len(got) < n {
						t.Error(len(got), err)
					}
					mustBe(t, got, sent[:len(got)])
				})
				if _, err := s.WriteVectorAll(ctx, [][]byte{sent}); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
}
