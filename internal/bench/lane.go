package bench

import (
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// phase is a part of an operation.
type phase uint8

const (
	phaseDNS phase = iota
	phaseConnect
	phaseBanner
	phaseStartTLS
	phaseTLS
	phaseVerdict
	phaseUpgrade
	phaseFirstByte
	phaseHeartbeat
	phaseDelivery
	phases
)

var phaseNames = [phases]string{"dns", "connect", "banner", "starttls", "tls", "verdict",
	"upgrade", "first_byte", "heartbeat", "delivery"}

// Latencies are kept in nanoseconds with three digits.
const (
	highestLatency = int64(time.Hour)
	latencyDigits  = 3
)

func newHistogram() *hdr.Histogram { return hdr.New(1, highestLatency, latencyDigits) }

// lane is what was noted on one loop. It belongs to the coroutines of that loop, which run one at a
// time, and after the run to whoever puts the lanes together; but for the counters, which the
// display of the progress reads.
type lane struct {
	loop     runtime.Loop
	sessions *sessionSlot

	latency  *hdr.Histogram
	phases   [phases]*hdr.Histogram
	failures map[string]*failure
	agreed   map[agreement]int64
	series   series
	late     lateness
	last     time.Duration    // when the last operation ended
	dropped  int64            // operations under way when the run was interrupted
	cut      cut              // of the latencies
	cutBeats cut              // of those of heartbeats
	used     int64            // workers that have begun an operation
	silent   int64            // handshakes after which nothing came in time, see verdict
	sends    uint             // messages that were sent
	held     []held           // connections that are open, in mode Connections
	beating  int64            // heartbeats under way
	members  []*socket.Socket // in mode WebSocketBroadcast
	scratch  [64]byte         // for what is not looked at
	unended  int64            // streams whose peer has not said that it has everything
	unasked  int64            // bytes that came while only sending

	// Read by others at any time.
	operations             *atomic.Int64
	failed, sent, received atomic.Int64
}

// failure is what went wrong in one way.
type failure struct {
	count   int64
	example string
}

// lateness is of operations of an open loop.
type lateness struct {
	busy, woken int64
	max         time.Duration
}

// late is from when on an operation counts as begun late.
const late = time.Millisecond

func newLane(loop runtime.Loop) *lane {
	return &lane{
		loop: loop, sessions: new(sessionSlot), latency: newHistogram(),
		operations: new(atomic.Int64), failures: make(map[string]*failure),
		agreed: make(map[agreement]int64),
	}
}

// trial is one operation under way.
type trial struct {
	ticket
	took   [phases]time.Duration
	has    [phases]bool
	agreed agreement // of the handshake; zero: none
	bytes  int64
	// when it was done, if work followed that isn't part of it; 0: when it is settled
	ended time.Duration
}

func (t *trial) note(p phase, took time.Duration) { t.took[p], t.has[p] = took, true }

// record adds a value to a histogram that is made when it is needed.
func record(h **hdr.Histogram, d time.Duration) {
	if *h == nil {
		*h = newHistogram()
	}
	(*h).RecordValue(min(max(1, int64(d)), highestLatency))
}

// notePhases notes the parts of an operation.
func (l *lane) notePhases(t *trial) {
	for p, has := range t.has {
		if has {
			record(&l.phases[p], t.took[p])
		}
	}
	if t.agreed != (agreement{}) {
		l.agreed[t.agreed]++
	}
}

// fail notes a failure.
func (l *lane) fail(class string, err error) {
	f := l.failures[class]
	if f == nil {
		f = &failure{example: describe(err)}
		l.failures[class] = f
	}
	f.count++
	l.failed.Add(1)
}

// woke notes whether the generator was late for an operation whose time it had waited for.
func (l *lane) woke(by time.Duration) {
	if by > late {
		l.late.woken++
	}
	l.late.max = max(l.late.max, by)
}

// queued notes how long an operation had to wait for a worker.
func (l *lane) queued(by time.Duration) {
	if by > late {
		l.late.busy++
	}
	l.late.max = max(l.late.max, by)
}
