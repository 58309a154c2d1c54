//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
)

// answering is a server that sends each message of 100 bytes back once it may.
func answering(t *testing.T, may <-chan struct{}) string {
	return scripted(t, func(_ int, conn net.Conn) {
		buf := make([]byte, 100)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return
			}
			<-may
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	})
}

// once returns a function for Options.Progress that calls fn when the run comes to a stage.
func once(stage string, fn func()) func(Progress) {
	var done sync.Once
	return func(p Progress) {
		if p.Stage == stage {
			done.Do(fn)
		}
	}
}

// With many connections and a slow server most operations of a closed loop end after the run's
// time. They were made, in the time that they took.
func TestAClosedLoopCountsWhatHasBegunInTime(t *testing.T) {
	may := make(chan struct{})
	o := options(PingPong, answering(t, may))
	o.Operations, o.Duration = 0, 50*ms
	o.Progress = once("finishing", func() { close(may) })
	r := faultless(t, o)
	if r.Operations != 4 || r.Latency.Count != 4 || r.Seconds < 0.05 ||
		r.Latency.Max > r.Seconds*1.01e9 {
		t.Errorf("%d operations in %v s, latencies %+v", r.Operations, r.Seconds, r.Latency)
	}
	if want := float64(r.Operations) / r.Seconds; r.Rate != want {
		t.Errorf("%v operations a second, want %v", r.Rate, want)
	}
	if !hasNote(r, "was under way at the end of the time took") {
		t.Errorf("notes: %q", r.Notes)
	}
}

func TestHowManyConnectionsWereUsedIsSaid(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo})
	for _, mode := range []Mode{PingPong, Throughput} {
		o := options(mode, address)
		o.Operations, o.Connections, o.Direction = 2, 8, Both
		if r := faultless(t, o); r.Used < 1 || r.Used > 2 || r.Connections != 8 {
			t.Errorf("%s: %d of %d connections used for 2 operations", mode, r.Used, r.Connections)
		}
		o.Operations, o.Connections, o.Rate = 20, 2, 200
		if r := faultless(t, o); r.Used != 2 {
			t.Errorf("%s: %d of 2 connections used for 20 operations", mode, r.Used)
		}
	}
}

func TestOnlyWhatWasUnderWayIsLeftOutOfAnInterruptedRun(t *testing.T) {
	echo, _ := serving(t, farside.Config{Role: farside.Echo})
	sink, _ := serving(t, farside.Config{Role: farside.Sink})
	for name, c := range map[string]struct {
		address, stage, note string
		rate                 float64
		duration             time.Duration
	}{
		// The first operation is long done, and the others of the first second wait for their time.
		"before their time": {echo, string(PingPong), "interrupted; 0 operations", 1, time.Hour},
		"under way":         {sink, string(PingPong), "interrupted; 4 operations", 0, time.Hour},
		"in the grace":      {sink, "finishing", "interrupted; 4 operations", 0, 20 * ms},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		o := options(PingPong, c.address)
		o.Operations, o.Rate, o.Duration, o.Progress = 0, c.rate, c.duration, once(c.stage, cancel)
		if c.rate > 0 {
			o.Progress = func(p Progress) {
				if p.Operations > 0 {
					cancel()
				}
			}
		}
		r, err := Run(ctx, o)
		cancel()
		check(t, err)
		if !r.Interrupted || len(r.Errors) > 0 || !hasNote(r, c.note) {
			t.Errorf("%s: interrupted %v, errors %v, notes %q", name, r.Interrupted, r.Errors,
				r.Notes)
		}
	}
}

// A server that gives each client the message of the first one, or an older one of its own, is no
// echo.
func TestPingPongComparesTheEcho(t *testing.T) {
	var lock sync.Mutex
	var first []byte
	address := scripted(t, func(_ int, conn net.Conn) {
		buf := make([]byte, 100)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return
			}
			lock.Lock()
			if first == nil {
				first = append(first, buf...)
			}
			answer := first
			lock.Unlock()
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
	const class = "message: not the echo of what was sent"
	for _, framing := range []message.Framing{message.None, message.EOF, message.Length} {
		lock.Lock()
		first = nil
		lock.Unlock()
		o := options(PingPong, address)
		o.Framing, o.Connections, o.Operations, o.Loops = framing, 2, 20, 1
		if r := bench(t, o); r.Operations != 1 || r.Errors[class] != 19 {
			t.Errorf("%s: %d operations, errors %v", framing, r.Operations, r.Errors)
		}
	}
}

func TestWhatTimesOutIsAmongTheLatenciesOfAnOpenLoop(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Sink})
	const timeout = 300 * ms
	o := options(PingPong, address)
	o.Connections, o.Operations, o.Rate, o.Timeout = 12, 10, 100, timeout
	r := bench(t, o)
	if r.Operations != 0 || r.Errors["message: timeout"] != 10 {
		t.Fatalf("%d operations, errors %v", r.Operations, r.Errors)
	}
	if q := r.Latency; q.Count != 10 || q.CutOff != 10 || q.Min < 0.99*float64(timeout) ||
		q.CutOffFrom < float64(timeout) {
		t.Errorf("latencies: %+v", q)
	}
	o.Rate = 0
	if r := bench(t, o); r.Latency.Count != 0 {
		t.Errorf("closed loop: latencies %+v", r.Latency)
	}
	o = options(Connections, address)
	o.Operations, o.Duration, o.Heartbeat, o.Timeout = 4, 200*ms, 50*ms, timeout
	if q := bench(t, o).Phases["heartbeat"]; q.Count != 4 || q.CutOff != 4 {
		t.Errorf("heartbeats: %+v", q)
	}
}

func TestAllSourcesAreUsedInTurn(t *testing.T) {
	var lock sync.Mutex
	seen := map[string]int{}
	address := scripted(t, func(_ int, conn net.Conn) {
		lock.Lock()
		seen[netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr().String()]++
		lock.Unlock()
		io.Copy(conn, conn)
	})
	o := options(PingPong, address)
	o.Connections, o.Source = 6, "127.0.0.2-127.0.0.4"
	faultless(t, o)
	lock.Lock()
	defer lock.Unlock()
	// The trial is from the first of them.
	if seen["127.0.0.2"] != 3 || seen["127.0.0.3"] != 2 || seen["127.0.0.4"] != 2 {
		t.Errorf("connections by address: %v", seen)
	}
}

func TestTheFirstByteComesAfterWhatIsSaid(t *testing.T) {
	cert, err := authority(t).Issue("127.0.0.1")
	check(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	const opening = "HELLO\r\n"
	var accepted atomic.Int64
	address := scripted(t, func(_ int, conn net.Conn) {
		accepted.Add(1)
		secure := tls.Server(conn, config)
		buf := make([]byte, len(opening))
		if _, err := io.ReadFull(secure, buf); err == nil && string(buf) == opening {
			secure.Write([]byte("+"))
			io.Copy(io.Discard, secure)
		}
	})
	o := options(Handshake, address)
	o.TLS, o.FirstByte, o.Opening = trusting(t), true, []byte(opening)
	if r := faultless(t, o); r.Operations != 20 || r.Phases["first_byte"].Count != 20 {
		t.Errorf("%d operations, phases %v", r.Operations, r.Phases)
	}
	// What the server has no answer to is found by the trial.
	accepted.Store(0)
	o.Opening = []byte("WHAT?\r\n")
	if _, err := Run(t.Context(), o); !errors.Is(err, io.EOF) || accepted.Load() != 1 {
		t.Errorf("after %d connections: %v", accepted.Load(), err)
	}
}
