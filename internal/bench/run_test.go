//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/bench/farside"
	"github.com/whorl-go/whorl/internal/bench/message"
	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/tlsconfig/devca"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// authority is the CA of all tests.
func authority(t testing.TB) *devca.CA {
	t.Helper()
	ca, err := theAuthority()
	check(t, err)
	return ca
}

var theAuthority = sync.OnceValues(func() (*devca.CA, error) { return devca.New("bench tests") })

func TestEveryModeOverEveryTransport(t *testing.T) {
	transports := append([]string{"plain", "tls"}, dialogue.ServerNames()...)
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			config := farside.Config{Role: farside.Echo}
			if transport != "plain" {
				config.TLS = &tls.Config{}
			}
			if transport != "plain" && transport != "tls" {
				config.StartTLS = starttls(t, transport)
			}
			address, server := serving(t, config)
			for _, mode := range []Mode{Handshake, PingPong, Throughput, Connections} {
				if mode == Handshake && transport == "plain" {
					continue
				}
				o := options(mode, address)
				o.StartTLS, o.Direction = config.StartTLS, Both
				if config.TLS != nil {
					o.TLS = trusting(t)
				}
				before := server.Stats()
				r := faultless(t, o)
				if r.Operations != 20 || r.Seconds <= 0 || r.Rate <= 0 || r.Latency.Count == 0 ||
					r.Latency.Max < r.Latency.Min {
					t.Errorf("%s: %d operations, %v/s in %v s, latency %+v", mode, r.Operations,
						r.Rate, r.Seconds, r.Latency)
				}
				want := []string{"connect"}
				if config.TLS != nil {
					want = append(want, "tls")
				}
				if config.StartTLS != nil {
					want = append(want, "starttls")
				}
				if config.StartTLS != nil && config.StartTLS.HasBanner() {
					want = append(want, "banner")
				}
				for _, phase := range want {
					if q := r.Phases[phase]; q.Count < 4 || q.Max <= 0 {
						t.Errorf("%s: phase %s: %+v", mode, phase, q)
					}
				}
				if len(r.Phases) != len(want) {
					t.Errorf("%s: phases %v, want %v", mode, r.Phases, want)
				}
				if (r.TLS != nil) != (config.TLS != nil) {
					t.Fatalf("%s: TLS is %v", mode, r.TLS)
				}
				if r.TLS != nil && (r.TLS.Version != "TLS 1.3" || r.TLS.Suite == "" ||
					r.TLS.Group == "" || r.TLS.Resumed != 0 || !strings.HasPrefix(r.TLS.Certificate,
					"ECDSA P-256")) {
					t.Errorf("%s: %+v", mode, r.TLS)
				}
				if made := server.Stats().Accepted - before.Accepted; mode == Handshake &&
					made != 21 || mode == Connections && made != 21 || made < 5 {
					t.Errorf("%s: the server has seen %d connections", mode, made)
				}
				if mode == PingPong && (r.BytesSent != 2000 || r.BytesReceived != 2000) {
					t.Errorf("%d bytes sent, %d received", r.BytesSent, r.BytesReceived)
				}
			}
		})
	}
}

func TestSessionsAreResumedAsOftenAsAsked(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, share := range []float64{0.5, 1} {
			o := options(Handshake, address)
			o.Operations, o.Resume, o.TLS = 80, share, trusting(t)
			o.FirstByte, o.Opening = true, []byte("\n")
			o.TLS.MaxVersion = version
			r := faultless(t, o)
			if r.TLS.Resumed != share || r.TLS.Handshakes != 80 ||
				r.TLS.Version != tls.VersionName(version) {
				t.Errorf("%s, share %v: %+v", tls.VersionName(version), share, r.TLS)
			}
			if r.Phases["first_byte"].Count != 80 {
				t.Errorf("phases: %v", r.Phases)
			}
		}
	}
}

func TestAServerWithoutTicketsCantResume(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo,
		TLS: &tls.Config{SessionTicketsDisabled: true}})
	o := options(Handshake, address)
	o.Resume, o.TLS = 1, trusting(t)
	if _, err := Run(t.Context(), o); !errors.Is(err, errNoTicket) {
		t.Errorf("error: %v", err)
	}
}

func TestTheServerIsVerified(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	for name, c := range map[string]struct {
		config *tls.Config
		reason explain.Reason
	}{
		"unknown authority": {&tls.Config{MinVersion: tls.VersionTLS12},
			explain.ReasonUnknownAuthority},
		"another name": {&tls.Config{RootCAs: authority(t).Pool(), ServerName: "other.test"},
			explain.ReasonNameMismatch},
	} {
		o := options(Handshake, address)
		o.TLS = c.config
		_, err := Run(t.Context(), o)
		if refused, ok := errors.AsType[*explain.HandshakeError](err); !ok ||
			refused.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := options(Handshake, address)
	o.TLS = &tls.Config{InsecureSkipVerify: true}
	faultless(t, o)
}

func TestAnOpenLoopBeginsWhatItIsTo(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo})
	o := options(PingPong, address)
	o.Operations, o.Duration, o.Rate, o.Warmup = 0, 500*ms, 200, 100*ms
	r := faultless(t, o)
	// Those that ended after the time count among the latencies only.
	if r.Latency.Count != 100 || r.Operations > 100 || r.Seconds != 0.5 {
		t.Errorf("%d latencies, %d operations in %v s", r.Latency.Count, r.Operations, r.Seconds)
	}
	if r.TargetRate != 200 {
		t.Errorf("asked for %v/s", r.TargetRate)
	}
}

// The server stands still once, for less than a tenth of the run, after a hundred messages. In an
// open loop that is seen by all the operations that were to begin meanwhile; in a closed loop by as
// many as there are connections.
func TestCoordinatedOmission(t *testing.T) {
	const stall = 700 * ms
	run := func(rate float64) (p99 time.Duration, slow int64) {
		var lock sync.Mutex
		var messages atomic.Int64
		address := scripted(t, func(_ int, conn net.Conn) {
			buf := make([]byte, 100)
			for {
				if _, err := io.ReadFull(conn, buf); err != nil {
					return
				}
				lock.Lock() // all connections wait
				if messages.Add(1) == 100 {
					time.Sleep(stall)
				}
				lock.Unlock()
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		})
		o := options(PingPong, address)
		o.Framing, o.Rate, o.Operations = message.None, rate, 400
		r := faultless(t, o)
		for _, bar := range r.Histogram.Distribution() {
			if time.Duration(bar.From) >= stall/2 {
				slow += bar.Count
			}
		}
		return time.Duration(r.Latency.P99), slow
	}
	if p99, slow := run(200); p99 < stall/2 || slow < 50 {
		t.Errorf("open loop: p99 is %v, %d of 400 operations took more than %v; about 70 were to",
			p99, slow, stall/2)
	}
	if _, slow := run(0); slow == 0 {
		t.Error("closed loop: the server didn't stall")
	}
}

func TestWhatNeverEndsIsCounted(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Sink}) // takes what comes, and is silent
	o := options(PingPong, address)
	o.Connections, o.Operations, o.Duration, o.Rate, o.Grace = 2, 0, 300*ms, 100, 200*ms
	r := bench(t, o)
	if r.Operations != 0 || r.Errors[unfinished] != 2 || r.Errors[neverBegun] != 28 ||
		len(r.Errors) != 2 {
		t.Errorf("%d operations, errors %v", r.Operations, r.Errors)
	}
	if r.Latency.Count != 30 || r.Latency.Min < 200e6 || r.Latency.Max < 499e6 ||
		r.Latency.CutOff != 30 || !hasNote(r, "30 operations had not ended") {
		t.Errorf("latencies: %+v", r.Latency)
	}
}

func TestErrorsAreCountedByClass(t *testing.T) {
	good := []string{"220 a\r\n", "250-x\r\n250 STARTTLS\r\n"}
	for class, last := range map[string]string{
		"starttls: STARTTLS refused":                   "454 not now\r\n",
		"starttls: malformed answer":                   "HTTP/1.1 400\r\n",
		"tls: plaintext behind the answer to STARTTLS": "220 go\r\n250 injected\r\n",
		"tls: " + string(explain.ReasonPlaintext):      "220 go\r\n",
	} {
		// The first connection is the trial.
		cert, err := authority(t).Issue("127.0.0.1")
		check(t, err)
		address := scripted(t, func(number int, conn net.Conn) {
			if number > 0 {
				says(conn, append(good[:2:2], last, "500 what is this?\r\n")...)
				return
			}
			says := func(text string) { conn.Write([]byte(text)) }
			hears := func() { conn.Read(make([]byte, 1000)) }
			says(good[0])
			hears()
			says(good[1])
			hears()
			says("220 go\r\n")
			tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		})
		o := options(Handshake, address)
		o.TLS, o.StartTLS, o.Operations = trusting(t), starttls(t, "smtp"), 6
		r := bench(t, o)
		if r.Operations != 0 || len(r.Errors) != 1 || r.Errors[class] != 6 ||
			r.Examples[class] == "" || r.Seconds <= 0 {
			t.Errorf("%s: %d operations, errors %v, %v", class, r.Operations, r.Errors, r.Examples)
		}
	}
}

// MySQL's wish for TLS has no answer.
func TestAProtocolThatDoesNotAnswerTheWishForTLS(t *testing.T) {
	cert, err := authority(t).Issue("127.0.0.1")
	check(t, err)
	address := scripted(t, func(_ int, conn net.Conn) {
		io.WriteString(conn, "\x1c\x00\x00\x00\x0a8.0\x00\x07\x00\x00\x00scramble\x00\xff\xff"+
			"\x21\x02\x00\xff\xdf\x15\x00\x00")
		io.ReadFull(conn, make([]byte, 36))
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		io.Copy(io.Discard, secure)
	})
	o := options(Handshake, address)
	o.TLS, o.StartTLS, o.Operations = trusting(t), starttls(t, "mysql"), 6
	if r := faultless(t, o); r.Phases["banner"].Count < 6 || r.Phases["starttls"].Count < 6 {
		t.Errorf("phases: %+v", r.Phases)
	}
}

func TestAServerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	address := l.Addr().String()
	l.Close()
	if _, err := Run(t.Context(), options(PingPong, address)); err == nil ||
		classify(err) != "connect: connection refused" {
		t.Errorf("error: %v", err)
	}
	if _, err := Run(t.Context(), options(PingPong, "host.invalid:25")); err == nil ||
		!strings.HasPrefix(classify(err), "dns: ") {
		t.Errorf("error: %v", err)
	}
}

func TestNamesAreResolved(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	o := options(Handshake, strings.Replace(address, "127.0.0.1", "localhost", 1))
	o.TLS = trusting(t)
	if r := faultless(t, o); r.Phases["dns"].Count != 1 || r.Address != address {
		t.Errorf("resolved to %s, phases %v", r.Address, r.Phases)
	}
	o.ResolveEach = true
	if r := faultless(t, o); r.Phases["dns"].Count != 21 {
		t.Errorf("phases: %v", r.Phases)
	}
}

func TestAnAddressThatDoesNotAnswerIsPassedOver(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo})
	port := netip.MustParseAddrPort(address).Port()
	o := options(PingPong, address)
	r, err := newRun(&o, 1)
	check(t, err)
	defer r.shutdown()
	r.dialer.host = "two.test"
	r.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.9.9.9"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	check(t, r.prepare(t.Context(), 1))
	if want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"),
		port); r.dialer.address != want {
		t.Errorf("uses %v, want %v", r.dialer.address, want)
	}
}

func TestAnInterruptedRunReportsWhatItHas(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	for _, mode := range []Mode{Handshake, PingPong, Throughput, Connections} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		o := options(mode, address)
		o.TLS, o.Operations, o.Duration, o.Direction = trusting(t), 0, time.Hour, Both
		if mode == Connections {
			o.Operations = 10
		}
		o.Progress = func(p Progress) {
			if p.Operations > 0 {
				cancel()
			}
		}
		r, err := Run(ctx, o)
		cancel()
		check(t, err)
		if !r.Interrupted || r.Operations == 0 || len(r.Errors) > 0 || !hasNote(r, "interrupted") {
			t.Errorf("%s: interrupted %v, %d operations, errors %v, notes %q", mode, r.Interrupted,
				r.Operations, r.Errors, r.Notes)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, options(PingPong, address)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted before it began: %v", err)
	}
}

func TestThroughputCountsWhatHasArrived(t *testing.T) {
	var arrived atomic.Int64
	address := scripted(t, func(_ int, conn net.Conn) {
		n, _ := io.Copy(io.Discard, conn)
		arrived.Add(n)
	})
	for _, size := range []int{100, 40_000} {
		arrived.Store(0)
		o := options(Throughput, address)
		o.Operations, o.Duration, o.Size = 0, 200*ms, size
		r := faultless(t, o)
		if r.BytesSent == 0 || r.BytesSent != arrived.Load() || r.Operations == 0 {
			t.Errorf("%d bytes sent, %d arrived, %d operations", r.BytesSent, arrived.Load(),
				r.Operations)
		}
		if hasNote(r, "confirm") {
			t.Errorf("notes: %q", r.Notes)
		}
	}
}

func TestThroughputToAPeerThatNeverEnds(t *testing.T) {
	release := make(chan struct{})
	address := scripted(t, func(_ int, conn net.Conn) {
		io.Copy(io.Discard, conn)
		<-release
	})
	t.Cleanup(func() { close(release) })
	o := options(Throughput, address)
	o.Grace = 100 * ms
	if r := faultless(t, o); r.Operations != 20 ||
		!hasNote(r, "4 connections: the peer did not confirm") {
		t.Errorf("%d operations, notes %q", r.Operations, r.Notes)
	}
}

func TestThroughputEndsWithItsConnections(t *testing.T) {
	for _, rate := range []float64{0, 1000} {
		var accepted atomic.Int64
		address := scripted(t, func(_ int, conn net.Conn) {
			if accepted.Add(1) > 1 { // the first one is the trial
				io.ReadFull(conn, make([]byte, 1000))
				conn.(*net.TCPConn).SetLinger(0)
			}
		})
		o := options(Throughput, address)
		o.Operations, o.Rate, o.Connections = 1_000_000_000, rate, 1
		r := bench(t, o)
		if r.Operations == 0 || r.Errors["message: connection reset"] != 1 {
			t.Errorf("rate %v: %d operations, errors %v", rate, r.Operations, r.Errors)
		}
	}
}

func TestThroughputFromASource(t *testing.T) {
	for _, framing := range []message.Framing{message.None, message.EOF, message.Length} {
		address, _ := serving(t, farside.Config{Role: farside.Source, Size: 500, Framing: framing,
			TLS: &tls.Config{}})
		o := options(Throughput, address)
		o.TLS, o.Direction, o.Size, o.Framing, o.Operations = trusting(t), Receive, 500, framing,
			1000
		if r := faultless(t, o); r.Operations != 1000 || r.BytesReceived != 500_000 {
			t.Errorf("%s: %d operations, %d bytes", framing, r.Operations, r.BytesReceived)
		}
	}
}

// An echo is the wrong peer for a stream in one direction. The figures say nothing then, and the
// run says so.
func TestThroughputInOneDirectionWithAnEcho(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	o := options(Throughput, address)
	o.TLS = trusting(t)
	if r := faultless(t, o); !hasNote(r, "the peer sent 2000 bytes that nobody receives") {
		t.Errorf("sending: notes %q", r.Notes)
	}
	o.Direction, o.Operations, o.Duration = Receive, 0, 100*ms
	if r := faultless(t, o); r.Operations != 0 || !hasNote(r, "no message came") {
		t.Errorf("receiving: %d operations, notes %q", r.Operations, r.Notes)
	}
}

func TestConnectionsAreHeld(t *testing.T) {
	address, server := serving(t, farside.Config{Role: farside.Echo, TLS: &tls.Config{}})
	for _, hold := range []Hold{HoldSocket, HoldCoroutine} {
		o := options(Connections, address)
		o.Operations, o.Duration, o.Heartbeat, o.Hold, o.TLS, o.Source = 200, 250*ms, 100*ms, hold,
			trusting(t), "127.0.0.2-127.0.0.4"
		accepted := server.Stats().Accepted
		r := bench(t, o)
		const skipped = "heartbeat: the one before is unanswered" // as happens on a busy machine
		if late, ok := r.Errors[skipped]; len(r.Errors) > 1 || len(r.Errors) == 1 && !ok ||
			late == 500 {
			t.Fatalf("%s: errors %v, such as %v", hold, r.Errors, r.Examples)
		}
		if r.Operations != 200 || r.Held != 200 || server.Stats().Accepted-accepted != 201 {
			t.Errorf("%s: %d operations, %d held", hold, r.Operations, r.Held)
		}
		if beats := r.Phases["heartbeat"].Count + r.Errors[skipped]; beats < 499 || beats > 502 {
			t.Errorf("%s: %d heartbeats, want 500: two each, and half of the third, on each loop",
				hold, beats)
		}
		if r.HeapPerConn == nil || *r.HeapPerConn < 500 || *r.RSSPerConn <= 0 ||
			*r.RSSPerConnBeforeGC <= 0 || hold == HoldCoroutine && *r.StackPerConn < 1000 {
			t.Errorf("%s: memory %v %v %v", hold, r.HeapPerConn, r.StackPerConn, r.RSSPerConn)
		}
	}
}

func TestConnectionsThatAreLostAreCounted(t *testing.T) {
	var opened atomic.Int64
	for hold, class := range map[Hold]string{HoldSocket: "held: closed or reset",
		HoldCoroutine: "held: closed by the peer"} {
		opened.Store(0)
		full := make(chan struct{})
		address := scripted(t, func(int, net.Conn) {
			if opened.Add(1) == 6 { // with the trial
				close(full)
			}
			<-full
		})
		o := options(Connections, address)
		o.Operations, o.Duration, o.Hold = 5, 500*ms, hold
		if r := bench(t, o); r.Operations != 5 || r.Held != 0 || r.Errors[class] != 5 ||
			!hasNote(r, "0 of 5 connections") {
			t.Errorf("%s: %d operations, %d held, errors %v, notes %q", hold, r.Operations, r.Held,
				r.Errors, r.Notes)
		}
	}
}

func TestWhatDoesNotFitIsSaidBefore(t *testing.T) {
	address, _ := serving(t, farside.Config{Role: farside.Echo})
	o := options(Connections, address)
	o.Operations, o.Source = MaxConnections, "127.0.0.1"
	_, err := Run(t.Context(), o)
	if _, ok := errors.AsType[*LimitError](err); !ok {
		t.Errorf("error: %v", err)
	}
}
