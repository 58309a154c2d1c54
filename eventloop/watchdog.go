package eventloop

import (
	"bytes"
	"reflect"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// loopLabel is the pprof label that the loop's goroutine and the coroutines created on it carry.
const loopLabel = "whorl.loop"

// watch is the watchdog: it looks four times per limit whether the loop is still in the same user
// function. One stall is reported once.
//
// A loop that polls, or is about to, or hasn't got its processor back since, is in no user
// function: it is never a stall, however long the machine keeps it waiting there.
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
		turns, within := l.userFunction()
		if !within || turns != last {
			last, same = turns, 0
			continue
		}
		if same++; same == looks+1 {
			l.reportStall(turns)
		}
	}
}

// userFunction returns the number of the user function that was called last, and whether it runs
// still, or has ended and the loop is on its way to the next one or to the poll.
func (l *Loop) userFunction() (number uint64, within bool) {
	ended := l.counters.ended.Load() // first: it never overtakes turns
	number = l.counters.turns.Load()
	return number, number != ended
}

// reportStall reports that the user function has held the loop for longer than the limit. If it
// ends while its stack is taken, the stack is of something else and is left out.
func (l *Loop) reportStall(function uint64) {
	at, stack := holder(l.name)
	if now, within := l.userFunction(); !within || now != function {
		at, stack = "unknown: it has ended meanwhile", ""
	}
	l.counters.stalls.Add(1)
	l.log.Warn("a function holds the event loop; blocking code belongs into runtime.Await",
		zap.String("at", at), zap.String("loop", l.name), zap.Duration("longer than", l.limit),
		zap.String("stack", stack))
}

// holder returns where what runs on the loop has its stack, and its stack: that of the loop's
// goroutine or of one of its coroutines, all of which carry the loop's label. All but one of them
// are parked in a coroutine switch.
func holder(name string) (at, stack string) {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return "unknown: " + err.Error(), ""
	}
	label := strconv.Quote(loopLabel) + ":" + strconv.Quote(name)
	for record := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(record, label) || parkedInSwitch(record) {
			continue
		}
		stack = record
		if strings.Contains(record, "eventloop.(*Loop).main+") ||
			strings.Contains(record, "\truntime.corostart+") {
			break
		}
		// A goroutine that was started on the loop and inherited the label; or the stack is so deep
		// that the profile lacks its root.
	}
	return placeOf(stack), stack
}

// parkedInSwitch reports whether a record of the goroutine profile is of coroutines that have
// switched away, or were never switched to. The text of a record leaves out the innermost functions
// if they are the runtime's, but its first line, "1 @ 0x47a9e1 0x53215f …", has their program
// counters, the innermost first.
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

// placeOf returns the innermost place in a record of the goroutine profile that is the program's
// own, "main.handle /srv/app/main.go:12": neither in Go's library nor in Whorl. If there is none,
// it is the innermost of all. A line of a record is
// "#\t0x47a9e1\tmain.handle+0x25\t/srv/app/main.go:12".
func placeOf(record string) string {
	innermost := "unknown"
	for line := range strings.Lines(record) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != "#" {
			continue
		}
		function, _, _ := strings.Cut(fields[2], "+0x")
		place := function + " " + fields[3]
		if innermost == "unknown" {
			innermost = place
		}
		if !inGo(fields[3]) && !inWhorl(function) {
			return place
		}
	}
	return innermost
}

// whorl is the path that the packages of this module begin with.
const whorl = "github.com/whorl-go/whorl/"

// inWhorl reports whether a function is Whorl's; its programs and its tests aren't.
func inWhorl(function string) bool {
	rest, found := strings.CutPrefix(function, whorl)
	return found && !strings.Contains(rest, "_test.")
}

// goFiles is what the names of files of Go's library begin with. It is empty in programs that were
// built with -trimpath: then they can't be told from others.
var goFiles = func() string {
	lookup := runtime.FuncForPC(reflect.ValueOf(pprof.Lookup).Pointer())
	file, _ := lookup.FileLine(lookup.Entry())
	root, _ := strings.CutSuffix(file, "runtime/pprof/pprof.go")
	return root
}()

func inGo(file string) bool { return goFiles != "" && strings.HasPrefix(file, goFiles) }
