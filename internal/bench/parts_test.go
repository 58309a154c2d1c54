package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/dialogue"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

func TestAGeneratorAtItsLimitIsFound(t *testing.T) {
	for _, c := range []struct {
		name   string
		usage  usage
		limits int
		text   string
	}{
		{"much CPU", usage{wall: time.Second, cpu: 1800 * ms, processors: 2, operations: 1000}, 1,
			"90 % of the 2 processors"},
		{"one loop of many processors", usage{wall: time.Second, cpu: 900 * ms, processors: 1,
			operations: 1000}, 1, "90 % of the 1 processors"},
		{"enough CPU left", usage{wall: time.Second, cpu: 1600 * ms, processors: 2,
			operations: 1000}, 0, ""},
		{"too short to tell", usage{wall: 10 * ms, cpu: 20 * ms, processors: 1, operations: 1000},
			0, ""},
		{"late by itself", usage{wall: time.Second, processors: 2, operations: 1000,
			late: lateness{woken: 11}}, 1, "11 of 1000"},
		{"seldom late", usage{wall: time.Second, processors: 2, operations: 1000,
			late: lateness{woken: 10}}, 0, ""},
		{"late since the server is slow", usage{wall: time.Second, processors: 2, operations: 1000,
			late: lateness{busy: 900}}, 0, ""},
		{"both", usage{wall: time.Second, cpu: 2 * time.Second, processors: 2, operations: 1000,
			late: lateness{woken: 100}}, 2, "late"},
		{"nothing happened", usage{}, 0, ""},
	} {
		limits := c.usage.limits()
		if len(limits) != c.limits || !strings.Contains(strings.Join(limits, "\n"), c.text) {
			t.Errorf("%s: %q", c.name, limits)
		}
	}
}

func TestNotesSayWhatElseWasSlow(t *testing.T) {
	for text, u := range map[string]usage{
		"rate of 1000/s was not reached": {wall: time.Second, rate: 1000, achieved: 900},
		"were 99 % busy":                 {wall: time.Second, machine: 0.99},
		"stood still":                    {wall: time.Second, stalls: 2},
		"slower than that, or -c is": {wall: time.Second, rate: 1000, achieved: 900,
			processors: 2},
		"can't be told whether the serv": {wall: time.Second, rate: 1000, achieved: 900,
			processors: 1, cpu: time.Second},
		"no operation has succeeded": {wall: time.Second, rate: 1000},
	} {
		if notes := u.notes(); len(notes) != 1 || !strings.Contains(notes[0], text) {
			t.Errorf("%q, want %q", notes, text)
		}
	}
	calm := usage{wall: time.Second, rate: 1000, achieved: 990, machine: 0.5}
	if notes := calm.notes(); len(notes) != 0 {
		t.Errorf("notes: %q", notes)
	}
}

func TestUsageBetweenTwoInstants(t *testing.T) {
	var u usage
	u.between(instant{at: time.Second, cpu: time.Second, busy: 10 * ms, all: 100 * ms,
		stallCount: 1},
		instant{at: 3 * time.Second, cpu: 2 * time.Second, busy: 60 * ms, all: 200 * ms,
			stallCount: 4})
	u.processors = 2
	if u.wall != 2*time.Second || u.cpu != time.Second || u.machine != 0.5 || u.stalls != 3 ||
		u.share() != 0.25 {
		t.Errorf("%+v, share %v", u, u.share())
	}
}

func TestSources(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "0 ",
		"auto":                "0 ",
		"127.0.0.9":           "1 127.0.0.9:0 127.0.0.9:0",
		"127.0.0.2-127.0.1.1": "256 127.0.0.2:0 127.0.0.3:0",
		"127.0.0.0/8":         "16777214 127.0.0.1:0 127.0.0.2:0",
		"10.1.2.3/30":         "2 10.1.2.1:0 10.1.2.2:0",
		"127.0.0.5/32":        "1 127.0.0.5:0 127.0.0.5:0",
		"::1":                 "1 [::1]:0 [::1]:0",
		"fd00::1-fd00::3":     "3 [fd00::1]:0 [fd00::2]:0",
		"fd00::/120":          "256 [fd00::]:0 [fd00::1]:0",
	} {
		s, err := parseSources(text)
		got := fmt.Sprintf("%d %s", s.count, s.at(0))
		if s.count > 0 {
			got += " " + s.at(int64(s.count)+1)
		}
		if err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"localhost", "127.0.0.1-", "127.0.0.9-127.0.0.1", "127.0.0.1-::1",
		"1.2.3.4/33", "fe80::1%lo", "0.0.0.0-200.0.0.0", "::-ffff::", "1-2-3"} {
		if s, err := parseSources(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, s)
		}
	}
}

func TestAsManySourcesAsItTakes(t *testing.T) {
	const ports = 28232
	loopback, other := netip.MustParseAddrPort("127.0.0.1:25"),
		netip.MustParseAddrPort("192.0.2.1:25")
	for _, c := range []struct {
		source      string
		connections int64
		to          netip.AddrPort
		want        int // -1: don't fit
	}{
		{"auto", 100, loopback, 0},
		{"auto", 1_000_000, loopback, 71},
		{"auto", 20_000, other, 0},
		{"auto", 30_000, other, -1},
		{"", 28_232, loopback, 0},
		{"", 28_233, loopback, -1},
		{"127.0.0.0/8", 100, loopback, 1<<24 - 2},
		{"127.0.0.2-127.0.0.4", 1, loopback, 3},
		{"127.0.0.1-127.0.0.3", 80_000, loopback, 3},
		{"127.0.0.1-127.0.0.3", 90_000, loopback, -1},
		{"::1", 1, loopback, -1},
	} {
		o := Options{Source: c.source}
		s, err := o.spread(c.connections, c.to, ports)
		if c.want >= 0 && (err != nil || s.count != c.want) || c.want < 0 && err == nil {
			t.Errorf("%q for %d connections to %v: %d addresses, %v; want %d", c.source,
				c.connections, c.to, s.count, err, c.want)
		}
		if limit, ok := errors.AsType[*LimitError](err); ok &&
			!strings.Contains(limit.Error(), "--source") {
			t.Errorf("error: %v", limit)
		}
	}
}

func TestASeriesStaysShort(t *testing.T) {
	var s series
	for i := range 1000 {
		c := s.at(time.Duration(i) * 100 * ms)
		c.operations++
		c.bytes += 10
		c.record(time.Duration(i+1) * ms)
		if i%100 == 0 {
			c.errors++
		}
	}
	if len(s.cells) > maxCells || s.width != 800*ms {
		t.Fatalf("%d intervals of %v", len(s.cells), s.width)
	}
	var short series // another lane's, that hasn't seen as much
	short.at(0).operations = 7
	joined := join([]*series{&short, &s})
	intervals := joined.intervals(100 * time.Second)
	var operations, failed, bytes int64
	for _, i := range intervals {
		operations, failed, bytes = operations+i.Operations, failed+i.Errors, bytes+i.Bytes
	}
	if operations != 1007 || failed != 10 || bytes != 10_000 || len(intervals) != 125 {
		t.Errorf("%d operations, %d errors, %d bytes in %d intervals", operations, failed, bytes,
			len(intervals))
	}
	if first := intervals[0]; first.Operations != 15 || first.Seconds != 0.8 ||
		first.Max < 8000e3 ||
		first.Max > 8100e3 || first.P50 < 3900e3 || first.P50 > 5100e3 {
		t.Errorf("first interval: %+v", first)
	}
	if cut := joined.intervals(99700 * ms); cut[124].Seconds != 0.5 {
		t.Errorf("the last interval has %v s", cut[124].Seconds)
	}
}

func TestClassesOfErrors(t *testing.T) {
	closed := &net.OpError{Op: "recv", Err: io.ErrUnexpectedEOF}
	for want, err := range map[string]error{
		"connect: connection refused": failedIn(phaseConnect,
			&net.OpError{Op: "connect", Err: syscall.ECONNREFUSED}),
		"connect: timeout": failedIn(phaseConnect,
			runtime.ErrTimeout),
		"connect: no local port left (see --source)": failedIn(phaseConnect,
			syscall.EADDRNOTAVAIL),
		"dns: name not found": failedIn(phaseDNS, &net.DNSError{}),
		"starttls: STARTTLS refused": failedIn(phaseStartTLS,
			fmt.Errorf("smtp: %w", dialogue.ErrRefused)),
		"tls: plaintext behind the answer to STARTTLS": failedIn(phaseTLS,
			socket.ErrPlaintextPending),
		"tls: " + string(explain.ReasonUnrecognizedName): failedIn(phaseTLS,
			&explain.HandshakeError{Reason: explain.ReasonUnrecognizedName, Err: io.EOF}),
		"message: closed by the peer in a message":         closed,
		"message: closed by the peer without close_notify": socket.ErrTruncated,
		"message: error 95 of the system":                  syscall.EOPNOTSUPP,
		"message: other":                                   errors.New("x"),
		"message: timeout":                                 context.DeadlineExceeded,
	} {
		if got := classify(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
	if got := describe(errors.New("a\x1b[31mb\r\nc\u202e")); got != "a?[31mb??c?" {
		t.Errorf("described as %q", got)
	}
	if got := describe(errors.New(strings.Repeat("é", 1000))); len([]rune(got)) != 301 {
		t.Errorf("a description of %d characters", len([]rune(got)))
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	good := func() Options {
		return Options{Mode: PingPong, Target: "localhost:1", Connections: 1, Operations: 1,
			Timeout: time.Second, Size: 1}
	}
	if o := good(); o.Check() != nil {
		t.Fatal(o.Check())
	}
	for name, change := range map[string]func(*Options){
		"no port":              func(o *Options) { o.Target = "localhost" },
		"a name for a port":    func(o *Options) { o.Target = "localhost:http" },
		"no host":              func(o *Options) { o.Target = ":25" },
		"no connections":       func(o *Options) { o.Connections = 0 },
		"no end":               func(o *Options) { o.Operations = 0 },
		"a negative rate":      func(o *Options) { o.Rate = -1 },
		"no time-out":          func(o *Options) { o.Timeout = 0 },
		"resume without TLS":   func(o *Options) { o.Resume = 1 },
		"handshakes in clear":  func(o *Options) { o.Mode = Handshake },
		"no message":           func(o *Options) { o.Size = 0 },
		"an unknown mode":      func(o *Options) { o.Mode = "x" },
		"an unknown direction": func(o *Options) { o.Mode, o.Direction = Throughput, "up" },
		"receiving at a rate": func(o *Options) {
			o.Mode, o.Direction, o.Rate = Throughput, Receive, 1
		},
		"an unknown hold": func(o *Options) { o.Mode, o.Hold = Connections, "x" },
		"a bad source":    func(o *Options) { o.Source = "here" },
		"a short heartbeat": func(o *Options) {
			o.Mode, o.Hold, o.Heartbeat = Connections, HoldSocket, 1
		},
		"warm connections": func(o *Options) {
			o.Mode, o.Hold, o.Warmup = Connections, HoldSocket, 1
		},
	} {
		o := good()
		change(&o)
		if o.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
