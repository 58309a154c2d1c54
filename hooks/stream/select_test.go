//go:build linux

package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

type streams = map[string]*stream.Stream

// selected returns the keys of the streams that are ready: "r:", "w:" and "x:" with the key behind
// it, sorted.
func selected(ctx context.Context, t testing.TB, read, write, except streams, timeout time.Duration) string {
	t.Helper()
	ready, err := stream.Select(ctx, read, write, except, timeout)
	check(t, err)
	var keys []string
	for prefix, sets := range map[string][2]streams{"r:": {ready.Read, read}, "w:": {ready.Write, write}, "x:": {ready.Except, except}} {
		for key, s := range sets[0] {
			if sets[1][key] != s {
				t.Errorf("%s%s is another stream than it was", prefix, key)
			}
			keys = append(keys, prefix+key)
		}
	}
	if ready.Count() != len(keys) {
		t.Errorf("the count is %d, of %q", ready.Count(), keys)
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

func wantSelected(ctx context.Context, t testing.TB, want string, read, write, except streams, timeout time.Duration) {
	t.Helper()
	if got := selected(ctx, t, read, write, except, timeout); got != want {
		t.Errorf("ready are %q, want %q", got, want)
	}
}

func TestSelectOfAllKinds(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		becomes(ctx, t, "both can write", func() bool { // with TLS, when the server has the end of the handshake
			return selected(ctx, t, streams{"s": server, "c": client}, streams{"s": server, "c": client}, nil, 0) == "w:c w:s"
		})
		wantSelected(ctx, t, "", streams{"s": server}, nil, streams{"s": server}, 0)
		wantSelected(ctx, t, "", streams{"s": server}, nil, nil, 10*time.Millisecond)
		write(ctx, t, client, "abcdef")
		wantSelected(ctx, t, "r:s", streams{"s": server, "c": client}, nil, streams{"c": client}, patience)
		// What has been decrypted, or read ahead, is nothing that the kernel knows of.
		readFull(ctx, t, server, "ab")
		wantSelected(ctx, t, "r:s", streams{"s": server}, nil, nil, -1)
		if line, err := server.GetLine(ctx, 100, "d"); line != "c" || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		wantSelected(ctx, t, "r:s", streams{"s": server}, nil, nil, -1)
		readFull(ctx, t, server, "ef")
		wantSelected(ctx, t, "", streams{"s": server}, nil, nil, 0)
		write(ctx, t, client, "gh")
		readFull(ctx, t, server, "g") // without a select between
		wantSelected(ctx, t, "r:s", streams{"s": server}, nil, nil, patience)
		readFull(ctx, t, server, "h")
		check(t, stream.Shutdown(ctx, client, socket.ShutdownWrite))
		for range 2 { // the end stays
			wantSelected(ctx, t, "r:s", streams{"s": server}, nil, nil, patience)
			if _, err := server.Read(ctx, make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v", err)
			}
		}
	})
}

func TestHalfALineKeepsNobodyBusy(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		server.SetBlocking(false)
		set := streams{"s": server}
		write(ctx, t, client, "half a ")
		for range 2 {
			becomes(ctx, t, "it has arrived", func() bool {
				_, err := server.Gets(ctx, 100)
				return err == stream.ErrWouldBlock && server.GetMetaData().UnreadBytes == len("half a ")
			})
			wantSelected(ctx, t, "", set, nil, nil, 10*time.Millisecond)
		}
		waiting := beside(ctx, t, func(ctx context.Context) error {
			wantSelected(ctx, t, "r:s", set, nil, nil, -1)
			return nil
		})
		becomes(ctx, t, "the select has the stream", server.Reading)
		write(ctx, t, client, "line\nand more")
		check(t, waiting())
		if line, err := server.Gets(ctx, 100); line != "half a line\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		wantSelected(ctx, t, "r:s", set, nil, nil, 0)
		if _, err := server.Gets(ctx, 100); err != stream.ErrWouldBlock {
			t.Errorf("gets: %v", err)
		}
		check(t, client.Close())
		wantSelected(ctx, t, "r:s", set, nil, nil, patience)
		if line, err := server.Gets(ctx, 100); line != "and more" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		wantSelected(ctx, t, "r:s", set, nil, nil, patience)
		if _, err := server.Gets(ctx, 100); err != io.EOF {
			t.Errorf("gets: %v", err)
		}
	})
}

func TestSelectWakesWhenSomethingComes(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		for range 3 {
			waiting := beside(ctx, t, func(ctx context.Context) error {
				wantSelected(ctx, t, "r:s", streams{"s": server}, nil, nil, -1)
				return nil
			})
			becomes(ctx, t, "the select has the stream", server.Reading)
			write(ctx, t, client, "x")
			check(t, waiting())
			readFull(ctx, t, server, "x")
		}
	})
}

func TestSelectForWritingWithFullBuffers(t *testing.T) {
	overStreams(t, func(ctx context.Context, t *testing.T, client, server *stream.Stream) {
		client.SetBlocking(false)
		total := 0
		chunk := make([]byte, 100_000)
		for {
			n, err := client.Write(ctx, chunk)
			if total += n; err == stream.ErrWouldBlock {
				break
			}
			check(t, err)
		}
		wantSelected(ctx, t, "", nil, streams{"c": client}, nil, 20*time.Millisecond)
		read := beside(ctx, t, func(ctx context.Context) error {
			for left := total; left > 0; {
				n, err := server.Read(ctx, chunk)
				if left -= n; err != nil {
					return err
				}
			}
			return nil
		})
		wantSelected(ctx, t, "w:c", streams{"c": client}, streams{"c": client}, nil, patience)
		check(t, read())
		if n, err := client.Write(ctx, []byte("again")); n != 5 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	})
}

func TestNothingFallsBetweenTheLookAndTheWait(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		check(t, stream.WaitFired(ctx, true, patience))
		wantError(t, "when nothing happens", stream.WaitFired(ctx, false, time.Millisecond), runtime.ErrTimeout)
	})
}

func TestSelectOfListeners(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		a, b := streamServer(ctx, t, "tcp://127.0.0.1:0"), streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
		set := streams{"a": a, "b": b}
		wantSelected(ctx, t, "", set, nil, nil, 0)
		client, err := stream.SocketClient(ctx, "tcp://"+a.GetName(false))
		check(t, err)
		for range 2 { // a level, not an edge
			wantSelected(ctx, t, "r:a", set, nil, nil, patience)
		}
		server, err := stream.Accept(ctx, a, 0)
		check(t, err)
		wantSelected(ctx, t, "", set, nil, nil, 0)
		secure, err := stream.SocketClient(ctx, "tls://"+b.GetName(false), clientSSL(t), stream.WithAsyncConnect())
		check(t, err)
		wantSelected(ctx, t, "r:b", set, nil, nil, patience)
		encrypted, err := stream.Accept(ctx, b, 0)
		check(t, err)
		wantSelected(ctx, t, "w:secure", streams{"secure": secure}, streams{"secure": secure}, nil, patience)
		write(ctx, t, secure, "x")
		set["encrypted"] = encrypted
		wantSelected(ctx, t, "r:encrypted", set, nil, nil, patience)
		for _, s := range []*stream.Stream{client, server, secure, encrypted, a, b} {
			check(t, s.Close())
		}
	})
}

func TestSelectTellsOfOutOfBandData(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tcp")
		set := streams{"s": server}
		wantSelected(ctx, t, "", nil, nil, set, 0)
		_, _, err := server.RecvFrom(ctx, make([]byte, 1), stream.FlagOOB)
		wantError(t, "out-of-band data that isn't there", err, syscall.EINVAL)
		waiting := beside(ctx, t, func(ctx context.Context) error {
			wantSelected(ctx, t, "x:s", nil, nil, set, -1)
			return nil
		})
		becomes(ctx, t, "the select has the stream", server.Reading)
		if n, err := client.SendTo(ctx, []byte("!"), stream.FlagOOB, ""); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		check(t, waiting())
		p := make([]byte, 10)
		n, _, err := server.RecvFrom(ctx, p, stream.FlagOOB|stream.FlagPeek)
		if string(p[:n]) != "!" || err != nil {
			t.Errorf("peeked: %q, %v", p[:n], err)
		}
		n, _, err = server.RecvFrom(ctx, p, stream.FlagOOB)
		if string(p[:n]) != "!" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		if server.EOF() {
			t.Error("out-of-band data that wasn't there counts as the end")
		}
		write(ctx, t, client, "in band")
		wantSelected(ctx, t, "r:s", set, nil, set, patience)
		readFull(ctx, t, server, "in band")
		client.Close()
		server.Close()
	})
}

func TestSelectThatMakesNoSense(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tcp")
		_, err := stream.Select[string](ctx, nil, nil, nil, 0)
		wantError(t, "no streams", err, syscall.EINVAL)
		_, err = stream.Select(ctx, streams{"there": client, "nil": nil}, nil, nil, 0)
		wantError(t, "a nil stream", err, syscall.EINVAL)
		check(t, client.Close())
		_, err = stream.Select(ctx, nil, streams{"open": server, "shut": client}, nil, patience)
		wantError(t, "a closed stream", err, net.ErrClosed)
		if !strings.Contains(err.Error(), "key shut") {
			t.Errorf("the error doesn't name the key: %v", err)
		}
		// None of them has kept the streams.
		wantSelected(ctx, t, "r:s w:s", streams{"s": server}, streams{"s": server}, streams{"s": server}, patience)
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		_, err = stream.Select(canceled, streams{"s": server}, nil, nil, 0)
		wantError(t, "a context that is done", err, context.Canceled)
		server.Close()
	})
}

func TestClosingAndCancelingEndASelect(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tcp")
		other, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
		check(t, err)
		for _, end := range []struct {
			name string
			do   func(cancel context.CancelFunc)
			want error
		}{
			{"cancel", func(cancel context.CancelFunc) { cancel() }, context.Canceled},
			{"close", func(context.CancelFunc) { check(t, server.Close()) }, net.ErrClosed},
		} {
			canceled, cancel := context.WithCancel(ctx)
			waiting := beside(ctx, t, func(context.Context) error {
				_, err := stream.Select(canceled, streams{"other": other, "s": server}, nil, nil, -1)
				return err
			})
			becomes(ctx, t, "the select has the stream", server.Reading)
			end.do(cancel)
			wantError(t, end.name, waiting(), end.want)
			cancel()
		}
		client.Close()
		other.Close()
	})
}

func TestTwoSelectsOnOneStream(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		client, server := streamPair(ctx, t, "tls")
		client.SetBlocking(false)
		for { // until the client can't write
			if _, err := client.Write(ctx, make([]byte, 100_000)); err == stream.ErrWouldBlock {
				break
			}
		}
		reading := beside(ctx, t, func(ctx context.Context) error {
			wantSelected(ctx, t, "r:c", streams{"c": client}, nil, nil, -1)
			return nil
		})
		writing := beside(ctx, t, func(ctx context.Context) error {
			wantSelected(ctx, t, "w:c", nil, streams{"c": client}, nil, -1)
			return nil
		})
		becomes(ctx, t, "both wait", func() bool { return client.Reading() && client.Writing() })
		for i, sets := range [][3]streams{{{"c": client}}, {nil, {"c": client}}, {nil, nil, {"c": client}}} {
			_, err := stream.Select(ctx, sets[0], sets[1], sets[2], 0)
			wantError(t, fmt.Sprint("in set ", i), err, socket.ErrBusy)
		}
		wantError(t, "a new time-out", client.SetTimeout(time.Second), socket.ErrBusy)
		write(ctx, t, server, "x")
		check(t, reading())
		drained := beside(ctx, t, func(ctx context.Context) error {
			for {
				if _, err := server.Read(ctx, make([]byte, 100_000)); err != nil {
					return nil
				}
			}
		})
		check(t, writing())
		client.Close()
		server.Close()
		check(t, drained())
	})
}

func TestSelectOfManyStreams(t *testing.T) {
	const connections = 300
	both(t, func(ctx context.Context, t *testing.T) {
		var clients, servers [connections]*stream.Stream
		set := make(map[int]*stream.Stream)
		for i := range clients {
			a, b, err := stream.SocketPair(ctx, "unix")
			check(t, err)
			clients[i], servers[i] = a, b
			set[i] = b
		}
		kept := maps.Clone(set)
		want := []int{3, 77, 150, 299}
		for range 3 {
			for _, i := range want {
				write(ctx, t, clients[i], "x")
			}
			ready, err := stream.Select(ctx, set, nil, nil, patience)
			check(t, err)
			if got := slices.Sorted(maps.Keys(ready.Read)); !slices.Equal(got, want) || len(ready.Write)+len(ready.Except) > 0 {
				t.Fatalf("ready are %v, want %v", got, want)
			}
			for i, s := range ready.Read {
				if s != servers[i] {
					t.Fatalf("stream %d is another one", i)
				}
				readFull(ctx, t, s, "x")
			}
		}
		if !maps.Equal(set, kept) {
			t.Error("the map has changed")
		}
		for i := range clients {
			clients[i].Close()
			servers[i].Close()
		}
	})
}

// TestSelectAcrossLoops has streams that live on several loops selected from each of them and from
// a goroutine, while each is written to from elsewhere.
func TestSelectAcrossLoops(t *testing.T) {
	ctx := start(t, runtime.WithLoops(3))
	const n, rounds = 6, 200
	var near, far [n]*stream.Stream
	for i := range near { // a goroutine's streams go to the loops in turn
		client, server := streamPair(ctx, t, []string{"tcp", "tls"}[i%2])
		near[i], far[i] = client, server
	}
	selectAll := func(ctx context.Context, streams map[int]*stream.Stream) error {
		got := 0
		for got < rounds*len(streams) {
			ready, err := stream.Select(ctx, streams, nil, nil, patience)
			if err != nil {
				return err
			}
			if ready.Count() == 0 {
				return errors.New("nothing has come")
			}
			for _, s := range ready.Read {
				p := make([]byte, 2)
				n, err := s.Read(ctx, p)
				if got += n; err != nil {
					return err
				}
			}
		}
		return nil
	}
	var ends []func() error
	var written atomic.Int64
	for i := range far {
		ends = append(ends, beside(ctx, t, func(ctx context.Context) error {
			for range rounds {
				if _, err := far[i].Write(ctx, []byte{'x'}); err != nil {
					return err
				}
				written.Add(1)
				if err := runtime.Yield(ctx); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for i := range 2 {
		ends = append(ends, beside(ctx, t, func(ctx context.Context) error {
			return selectAll(ctx, map[int]*stream.Stream{2 * i: near[2*i], 2*i + 1: near[2*i+1]})
		}))
	}
	check(t, selectAll(ctx, map[int]*stream.Stream{4: near[4], 5: near[5]}))
	for _, end := range ends {
		check(t, end())
	}
	if written.Load() != n*rounds {
		t.Errorf("%d bytes written", written.Load())
	}
	for i := range near {
		near[i].Close()
		far[i].Close()
	}
}

func TestSelectOfPartOfARecord(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		// A relay passes the first part of a TLS record on, and later the rest.
		listener := streamServer(ctx, t, "tls://127.0.0.1:0", serverSSL(t))
		relay := streamServer(ctx, t, "tcp://127.0.0.1:0")
		client, err := stream.SocketClient(ctx, "tls://"+relay.GetName(false), clientSSL(t), stream.WithAsyncConnect())
		check(t, err)
		in, err := stream.Accept(ctx, relay, patience)
		check(t, err)
		out, err := stream.SocketClient(ctx, "tcp://"+listener.GetName(false))
		check(t, err)
		server, err := stream.Accept(ctx, listener, patience)
		check(t, err)
		back := beside(ctx, t, func(ctx context.Context) error {
			_, err := out.Copy(ctx, in, -1)
			return err
		})
		there := beside(ctx, t, func(ctx context.Context) error {
			for { // until the handshake is over
				ready, err := stream.Select(ctx, streams{"in": in}, streams{"client": client}, nil, patience)
				if err != nil {
					return err
				}
				if ready.Read["in"] == nil {
					return nil
				}
				p := make([]byte, 100_000)
				n, err := in.Read(ctx, p)
				if err != nil {
					return err
				}
				if _, err := out.Write(ctx, p[:n]); err != nil {
					return err
				}
			}
		})
		check(t, there())
		wantSelected(ctx, t, "w:server", nil, streams{"server": server}, nil, patience)
		wantSelected(ctx, t, "", streams{"server": server}, nil, nil, 0)
		write(ctx, t, client, "in parts")
		record := make([]byte, 10_000)
		n, err := in.Read(ctx, record)
		check(t, err)
		write(ctx, t, out, string(record[:n-1]))
		wantSelected(ctx, t, "", streams{"server": server}, nil, nil, 50*time.Millisecond)
		write(ctx, t, out, string(record[n-1:n]))
		wantSelected(ctx, t, "r:server", streams{"server": server}, nil, nil, patience)
		readFull(ctx, t, server, "in parts")
		for _, s := range []*stream.Stream{server, listener, relay, client, out, in} {
			check(t, s.Close())
		}
		back()
	})
}

// A select that waits elsewhere ends with the runtime of its streams.
func TestEndOfTheRuntimeEndsASelect(t *testing.T) {
	guard(t)
	rt, err := runtime.New(quiet...)
	check(t, err)
	check(t, rt.Start())
	a, b, err := stream.SocketPair(rt.Context(), "unix")
	check(t, err)
	result := make(chan error, 1)
	go func() {
		_, err := stream.Select(context.Background(), map[int]*stream.Stream{1: a}, nil, nil, -1)
		result <- err
	}()
	leaktest.Until(t, "the select has begun", a.Reading)
	shutdown(t, rt)
	select {
	case err := <-result:
		if err != nil && !errors.Is(err, runtime.ErrShutdown) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(patience):
		t.Error("the select goes on")
	}
	goruntime.KeepAlive(b)
}
