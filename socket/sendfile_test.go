//go:build linux

package socket_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// tempFile makes a file with content and opens it.
func tempFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// sendFiles runs a test for each kind of connection that SendFile knows.
func sendFiles(t *testing.T, test func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn)) {
	for _, c := range []struct {
		name, network string
		secure        bool
	}{{"TCP", "tcp", false}, {"Unix", "unix", false}, {"TLS", "tcp", true}} {
		t.Run(c.name, func(t *testing.T) {
			withPeers(t, func(ctx context.Context, peers *sync.WaitGroup) {
				s, peer := secured(ctx, t, c.network, c.secure)
				defer peer.Close()
				defer s.Close()
				test(ctx, t, peers, s, peer)
			})
		})
	}
}

func TestSendFile(t *testing.T) {
	content := pattern(200_000)
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		file := tempFile(t, content)
		file.Seek(7, io.SeekStart)
		for _, c := range []struct {
			offset, length int64
			want           []byte
			err            error
		}{
			{0, 0, content, nil},
			{0, 1, content[:1], nil},
			{1000, 70_000, content[1000:71_000], nil},
			{199_999, 1, content[199_999:], nil},
			{150_000, 0, content[150_000:], nil},
			{200_000, 0, nil, nil},
			{300_000, 0, nil, nil},
			{190_000, 10_001, content[190_000:], io.ErrUnexpectedEOF},
			{300_000, 5, nil, io.ErrUnexpectedEOF},
			{-1, 0, nil, syscall.EINVAL},
			{0, -1, nil, syscall.EINVAL},
		} {
			var reader sync.WaitGroup
			reader.Go(func() { mustBe(t, read(t, peer, len(c.want)), c.want) })
			n, err := s.SendFile(ctx, file, c.offset, c.length)
			if n != int64(len(c.want)) || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("offset %d, length %d: %d, %v; want %d, %v", c.offset, c.length, n, err, len(c.want), c.err)
			}
			await(ctx, reader.Wait)
		}
		if at, _ := file.Seek(0, io.SeekCurrent); at != 7 {
			t.Errorf("the file's own offset has become %d", at)
		}
	})
}

// What is queued goes first, what is sent afterwards comes behind.
func TestSendFileKeepsItsPlace(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		s.SendSoon(ctx, []byte("head "))
		if n, err := s.SendFile(ctx, tempFile(t, []byte("body")), 0, 0); n != 4 || err != nil {
			t.Error(n, err)
		}
		s.SendSoon(ctx, []byte(" tail"))
		s.Shutdown(ctx, socket.ShutdownWrite)
		await(ctx, func() {
			if got, err := io.ReadAll(peer); string(got) != "head body tail" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	})
}

// The peer takes its time: SendFile waits for it, and the loop goes on meanwhile.
func TestSendFileToASlowReader(t *testing.T) {
	content := pattern(24 << 20)
	want := sha256.Sum256(content)
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		rt, _ := runtime.From(ctx)
		file := tempFile(t, content)
		peers.Go(func() {
			for !waiting(rt, "socket send") { // which shows that the loop is free, too
				goruntime.Gosched()
			}
			hash := sha256.New()
			n, err := io.Copy(hash, peer)
			if n != int64(len(content)) || err != nil {
				t.Error("peer:", n, err)
			}
			if got := [sha256.Size]byte(hash.Sum(nil)); got != want {
				t.Error("the peer got something else")
			}
		})
		if n, err := s.SendFile(ctx, file, 0, 0); n != int64(len(content)) || err != nil {
			t.Error(n, err)
		}
		s.Close()
		await(ctx, peers.Wait)
	})
}

// The file becomes shorter while it is sent.
func TestSendFileThatShrinks(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		const size, left = 24 << 20, 20 << 20 // more than the kernel's buffers hold
		rt, _ := runtime.From(ctx)
		file := tempFile(t, pattern(size))
		peers.Go(func() {
			for !waiting(rt, "socket send") {
				goruntime.Gosched()
			}
			if err := file.Truncate(left); err != nil {
				t.Error(err)
			}
			mustBe(t, read(t, peer, left), pattern(left))
		})
		if n, err := s.SendFile(ctx, file, 0, size); n != left || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(n, err)
		}
		await(ctx, peers.Wait)
	})
}

// What ends SendFile in the middle; the count says how much had gone.
func TestSendFileIsEnded(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *socket.Socket, cancel context.CancelFunc)
		want error
	}{
		{"context", func(_ *socket.Socket, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"Cancel", func(s *socket.Socket, _ context.CancelFunc) { s.Cancel(socket.WriteEvent) }, socket.ErrCanceled},
		{"Abort", func(s *socket.Socket, _ context.CancelFunc) { s.Abort() }, net.ErrClosed},
		{"timeout", nil, runtime.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
				rt, _ := runtime.From(ctx)
				file := tempFile(t, pattern(32<<20))
				s.SetLinger(0)
				sending, cancel := context.WithCancel(ctx)
				defer cancel()
				if c.end == nil {
					s.SetTimeouts(socket.Timeouts{Write: 20 * time.Millisecond})
				} else {
					peers.Go(func() {
						for !waiting(rt, "socket send") {
							goruntime.Gosched()
						}
						c.end(s, cancel)
					})
				}
				n, err := s.SendFile(sending, file, 0, 0)
				if n <= 0 || n >= 32<<20 || !errors.Is(err, c.want) {
					t.Error(n, err)
				}
				await(ctx, peers.Wait)
			})
		})
	}
}

// Close while SendFile is at the disk, or just back from there, ends it as well.
func TestCloseEndsSendFile(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		rt, _ := runtime.From(ctx)
		file := tempFile(t, nil)
		if err := file.Truncate(1 << 38); err != nil { // which takes minutes to send
			t.Fatal(err)
		}
		s.SetLinger(0)
		peers.Go(func() { io.Copy(io.Discard, peer) })
		ended := make(chan error, 1)
		co, _ := runtime.Go(ctx, func(ctx context.Context) {
			_, err := s.SendFile(ctx, file, 0, 0)
			ended <- err
		})
		await(ctx, func() {
			for !slices.ContainsFunc(rt.List(), func(i runtime.Info) bool { return i.ID == co.ID() && i.State == "await" }) {
				goruntime.Gosched()
			}
			s.Close()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
		await(ctx, peers.Wait)
	})
}

func TestSendFileOfWhatIsNoFile(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		closed := tempFile(t, []byte("hello"))
		closed.Close()
		if n, err := s.SendFile(ctx, closed, 0, 0); n != 0 || err == nil {
			t.Error(n, err)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		w.WriteString("hello")
		if n, err := s.SendFile(ctx, r, 0, 5); n != 0 || err == nil {
			t.Error(n, err)
		}
		directory, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer directory.Close()
		if n, err := s.SendFile(ctx, directory, 0, 0); n != 0 || err == nil {
			t.Error(n, err)
		}
		if n, err := s.SendFile(ctx, nil, 0, 0); n != 0 || !errors.Is(err, os.ErrInvalid) {
			t.Error(n, err)
		}
		// The connection is as it was.
		if n, err := s.SendFile(ctx, tempFile(t, []byte("still there")), 0, 0); n != 11 || err != nil {
			t.Error(n, err)
		}
		await(ctx, func() { mustBe(t, read(t, peer, 11), []byte("still there")) })
	})
}

func TestSendFileNeedsAConnectedStream(t *testing.T) {
	withPeers(t, func(ctx context.Context, _ *sync.WaitGroup) {
		file := tempFile(t, []byte("hello"))
		a, b, err := socket.Pair(ctx, "unixgram")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		defer b.Close()
		if _, err := a.SendFile(ctx, file, 0, 0); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Error(err)
		}
		s, _ := socket.New("tcp")
		if _, err := s.SendFile(ctx, file, 0, 0); !errors.Is(err, socket.ErrNotConnected) {
			t.Error(err)
		}
		s, peer := dialed(ctx, t, "tcp")
		defer peer.Close()
		writer, _ := runtime.Go(ctx, func(ctx context.Context) { s.SendAll(ctx, pattern(32<<20)) })
		if _, err := s.SendFile(ctx, file, 0, 0); !errors.Is(err, socket.ErrBusy) {
			t.Error(err)
		}
		s.Abort()
		writer.Join(ctx)
		if _, err := s.SendFile(ctx, file, 0, 0); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// The peer has gone: an error, and no signal.
func TestSendFileToAPeerThatHasGone(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, _ *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		file := tempFile(t, pattern(1<<20))
		peer.Close()
		var err error
		for err == nil {
			_, err = s.SendFile(ctx, file, 0, 0)
		}
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestSendFileFromGoroutines(t *testing.T) {
	sendFiles(t, func(ctx context.Context, t *testing.T, peers *sync.WaitGroup, s *socket.Socket, peer net.Conn) {
		file := tempFile(t, pattern(8<<20))
		await(ctx, func() {
			peers.Go(func() { mustBe(t, read(t, peer, 8<<20), pattern(8<<20)) })
			if n, err := s.SendFile(ctx, file, 0, 0); n != 8<<20 || err != nil {
				t.Error(n, err)
			}
			peers.Wait()
		})
	})
}
