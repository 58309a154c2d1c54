package bench

import (
	"fmt"
	goruntime "runtime"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"

	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/clock"
)

// result puts together what the lanes have noted. All coroutines have ended.
func (r *run) result() *report.Result {
	o := r.options
	res := &report.Result{
		Mode: string(o.Mode), Target: o.Target, Address: r.dialer.text, Connections: o.Connections,
		TargetRate: o.Rate, Command: o.Command,
		Errors: make(map[string]int64), Examples: make(map[string]string),
		Phases: make(map[string]report.Quantiles), Order: phaseNames[:],
		Interrupted: r.interrupted, Held: r.held, Machine: report.ThisMachine(),
	}
	if o.StartTLS != nil {
		res.StartTLS = o.StartTLS.Name
	}
	all := newLane(nil)
	var timelines []*series
	for _, l := range r.lanes {
		all.add(l)
		timelines = append(timelines, &l.series)
	}
	if !r.interrupted && o.Mode != Throughput { // a stream that has failed begins nothing more
		r.pace.missed(func(intended time.Duration, n int64) {
			waited := r.pace.end() + o.Grace - intended
			all.latency.RecordValues(min(int64(waited), highestLatency), n)
			all.cut.note(waited, n)
			all.fail(neverBegun, errNeverBegun)
			all.failures[neverBegun].count += n - 1
		})
	}
	for class, f := range all.failures {
		res.Errors[class], res.Examples[class] = f.count, f.example
	}
	for p, h := range all.phases {
		if h != nil {
			q := report.QuantilesOf(h)
			if phase(p) == phaseHeartbeat {
				q = q.WithCutOff(all.cutBeats.count, all.cutBeats.least)
			}
			res.Phases[phaseNames[p]] = q
		}
	}
	res.Operations, res.BytesSent, res.BytesReceived = all.operations.Load(), all.sent.Load(),
		all.received.Load()
	res.Latency = report.QuantilesOf(all.latency).WithCutOff(all.cut.count, all.cut.least)
	res.Histogram, res.Used = all.latency, all.used
	res.LateStarts = report.LateStarts{Busy: all.late.busy, Woken: all.late.woken,
		Max: float64(all.late.max)}
	if o.TLS != nil {
		res.TLS = summarize(all.agreed, r.certificate)
	}
	elapsed := r.elapsed(all.last)
	res.Seconds = elapsed.Seconds()
	if elapsed > 0 {
		res.Rate = float64(res.Operations) / res.Seconds
	}
	joined := join(timelines)
	res.Series = joined.intervals(elapsed)
	r.judge(res, all)
	if m := r.perConn; m != nil {
		res.HeapPerConn, res.StackPerConn, res.RSSPerConn, res.RSSPerConnBeforeGC = &m.Heap,
			&m.Stack, &m.RSS, &m.Found
	}
	return res
}

// elapsed returns how long was measured: to the end that was set, or else to the end of the last
// operation. In a closed loop those that were under way at the end count, and their time with them.
func (r *run) elapsed(last time.Duration) time.Duration {
	end := min(r.to.at, r.pace.end())
	if r.options.Mode == Throughput || r.counted && !r.interrupted ||
		r.options.holds() {
		end = last
	}
	if r.options.Rate == 0 {
		end = max(end, last)
	}
	return max(0, end-r.pace.open)
}

// add puts another lane's notes to those of l.
func (l *lane) add(other *lane) {
	merge(&l.latency, other.latency)
	for p, h := range other.phases {
		merge(&l.phases[p], h)
	}
	for class, f := range other.failures {
		if mine := l.failures[class]; mine != nil {
			mine.count += f.count
		} else {
			l.failures[class] = f
		}
	}
	for a, n := range other.agreed {
		l.agreed[a] += n
	}
	l.late.busy += other.late.busy
	l.late.woken += other.late.woken
	l.late.max = max(l.late.max, other.late.max)
	l.last = max(l.last, other.last)
	l.dropped += other.dropped
	l.cut.join(other.cut)
	l.cutBeats.join(other.cutBeats)
	l.used += other.used
	l.silent += other.silent
	l.unended += other.unended
	l.unasked += other.unasked
	l.operations.Add(other.operations.Load())
	l.failed.Add(other.failed.Load())
	l.sent.Add(other.sent.Load())
	l.received.Add(other.received.Load())
}

func merge(into **hdr.Histogram, from *hdr.Histogram) {
	switch {
	case from == nil:
	case *into == nil:
		*into = from
	default:
		(*into).Merge(from)
	}
}

// judge says how far the figures can be trusted.
func (r *run) judge(res *report.Result, all *lane) {
	o := r.options
	scheduled := res.Operations + res.Phases[phaseNames[phaseHeartbeat]].Count
	u := usage{
		processors: float64(min(o.Loops, goruntime.GOMAXPROCS(0))), operations: scheduled,
		late: all.late, rate: o.Rate, achieved: res.Rate,
	}
	u.between(r.from, r.to)
	res.CPUSeconds, res.CPUShare = (r.drained.cpu - r.from.cpu).Seconds(), u.share()
	res.Limits = u.limits()
	res.GeneratorLimited = len(res.Limits) > 0
	res.Notes = append(u.notes(), r.notes(res, all)...)
}

// longDrain is from which share of the run's time on it is said how long its last operations took.
const longDrain = 0.05

func (r *run) notes(res *report.Result, all *lane) []string {
	o := r.options
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if r.interrupted {
		note("interrupted; %d operations that were under way are left out", all.dropped)
	}
	if t := res.TLS; t != nil && t.Handshakes > 0 &&
		t.Resumed < o.Resume-0.01-1/float64(t.Handshakes) {
		note("%.1f %% of the handshakes resumed a session, %.1f %% were to: the server doesn't "+
			"take all of its tickets back", 100*t.Resumed, 100*o.Resume)
	}
	if all.unended > 0 {
		note("%d connections: the peer did not confirm the end by closing, so up to a socket "+
			"buffer of what was sent may not have arrived", all.unended)
	}
	if all.unasked > 0 {
		note("the peer sent %d bytes that nobody receives with direction send: a peer that "+
			"echoes stops taking more when its answers aren't taken, so measure it with "+
			"direction both",
			all.unasked)
	}
	if o.Mode == Throughput && o.Direction == Receive && res.Operations == 0 &&
		all.failed.Load() == 0 {
		note("no message came: direction receive is for a peer that sends without being asked")
	}
	if o.Mode == Throughput && r.every() > 1 {
		note("the latency is of one message in %d", r.every())
	}
	if o.holds() && r.held < o.Operations {
		note("%d of %d connections were held to the end", r.held, o.Operations)
	}
	if s := r.dialer.sources; s.count > 1 {
		note("connected from %d addresses, %s and following", s.count, s.first)
	}
	if n := all.latency.TotalCount() - res.Operations; n > 0 && o.Rate > 0 && o.Mode != Throughput {
		note("%d operations ended after the run's time or not at all: they count among the "+
			"latencies, "+
			"not for the rate", n)
	}
	if n := all.cut.count + all.cutBeats.count; n > 0 {
		note("%d operations had not ended when they were given up: the latencies with ≥ are at "+
			"least "+
			"what is written", n)
	}
	if more := r.pace.open + r.elapsed(all.last) - r.pace.end(); o.Mode != Throughput &&
		!r.interrupted &&
		o.Rate == 0 && more > time.Duration(longDrain*float64(o.Duration)) {
		note("what was under way at the end of the time took %v more: it counts, and so does "+
			"that time",
			more.Round(time.Millisecond))
	}
	if all.silent > 0 {
		note("the server asks for client certificates, and after %d handshakes it has said "+
			"nothing by "+
			"which to tell whether it takes them: --first-byte waits for an answer", all.silent)
	}
	return notes
}

// displayEvery is how often the progress is told.
const displayEvery = 200 * time.Millisecond

// display tells the progress until the function that it returns is called.
func (r *run) display() (stop func()) {
	if r.options.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(displayEvery)
		defer tick.Stop()
		var last Progress
		at := clock.Now()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := clock.Now()
			p := r.progress(now)
			if p.Operations >= last.Operations {
				p.Rate = float64(p.Operations-last.Operations) / (now - at).Seconds()
			}
			r.options.Progress(p)
			last, at = p, now
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (r *run) progress(now time.Duration) Progress {
	p := Progress{Stage: *r.stage.Load()}
	for _, l := range r.lanes {
		p.Operations += l.operations.Load()
		p.Errors += l.failed.Load()
	}
	begun := time.Duration(r.begun.Load())
	if begun == 0 {
		return p
	}
	spent := now - begun
	if end := r.pace.end(); end != never {
		p.Done = float64(spent) / float64(max(1, end-begun))
	}
	if n := r.options.Operations; n > 0 {
		p.Done = max(p.Done, float64(p.Operations)/float64(n))
	}
	p.Done = min(1, max(0, p.Done))
	if p.Done > 0 {
		p.Left = time.Duration(float64(spent) * (1 - p.Done) / p.Done)
	}
	return p
}
