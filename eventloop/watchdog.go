package eventloop

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"time"

	"go.uber.org/zap"
)

// loopLabel is the pprof label that the loop's goroutine and the coroutines created on it carry.
const loopLabel = "whorl.loop"

// watch is the watchdog: it looks four times per limit whether the loop has come to another user function, or sleeps. One stall is
// reported once.
func (l *Loop) watch() {
	const looks = 4
	tick := time.NewTicker(max(l.limit/looks, time.Millisecond))
	defer tick.Stop()
	var last uint64
	var same int
	for {
		select {
		case <-l.finished:
			return
		case <-tick.C:
		}
		turns := l.counters.turns.Load()
		if turns != last || l.polling.Load() {
			last, same = turns, 0
			continue
		}
		if same++; same == looks+1 {
			l.counters.stalls.Add(1)
			l.log.Warn("a function holds the event loop; blocking code belongs into runtime.Await",
				zap.String("loop", l.name), zap.Duration("longer than", l.limit), zap.String("stack", holderStack(l.name)))
		}
	}
}

// holderStack returns the stack of what runs on the loop. The loop's goroutine and its coroutines carry the loop's label, and all
// but one of them are parked in a coroutine switch.
func holderStack(name string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return "unknown: " + err.Error()
	}
	label := `"` + loopLabel + `":"` + name + `"`
	for record := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(record, label) && !strings.Contains(record, "runtime.coroswitch") {
			return record
		}
	}
	return "unknown: no goroutine carries the loop's label " + label
}
