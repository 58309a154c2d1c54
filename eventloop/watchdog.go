package eventloop

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strconv"
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

// holderStack returns the stack of what runs on the loop: of the loop's goroutine, or of one of its coroutines, all of which carry the loop's
// label. All but one of them are parked in a coroutine switch.
func holderStack(name string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return "unknown: " + err.Error()
	}
	label := strconv.Quote(loopLabel) + ":" + strconv.Quote(name)
	candidate := "unknown: no goroutine carries the loop's label " + label
	for record := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(record, label) || parkedInSwitch(record) {
			continue
		}
		if strings.Contains(record, "eventloop.(*Loop).main+") || strings.Contains(record, "\truntime.corostart+") {
			return record
		}
		// A goroutine that was started on the loop and inherited the label; or the stack is so deep that the profile lacks its root.
		candidate = record
	}
	return candidate
}

// parkedInSwitch reports whether a record of the goroutine profile is of coroutines that have switched away, or were never switched to. The
// text of a record leaves out the innermost functions if they are the runtime's, but its first line, "1 @ 0x47a9e1 0x53215f …", has their
// program counters, the innermost first.
func parkedInSwitch(record string) bool {
	_, counters, _ := strings.Cut(record, " @ 0x")
	end := strings.IndexAny(counters, " \n")
	if end < 0 {
		return false
	}
	pc, err := strconv.ParseUint(counters[:end], 16, 64)
	if err != nil {
		return false
	}
	fn := runtime.FuncForPC(uintptr(pc))
	return fn != nil && (fn.Name() == "runtime.coroswitch" || fn.Name() == "runtime.corostart")
}
