package sched

import (
	"fmt"
	goruntime "runtime"
	"strings"
)

func gosched() { goruntime.Gosched() }
func goexit()  { goruntime.Goexit() }

// module is the prefix of the names of Whorl's own functions in a stack trace.
const module = "github.com/whorl-go/whorl/"

// callerOutside returns the file and line of the innermost caller that doesn't belong to Whorl:
// where a coroutine waits, in its author's eyes.
func callerOutside() string {
	var pcs [64]uintptr
	frames := goruntime.CallersFrames(pcs[:goruntime.Callers(2, pcs[:])])
	for {
		frame, more := frames.Next()
		if !insideWhorl(frame.Function, frame.File) {
			return fmt.Sprintf("%s:%d", frame.File, frame.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

func insideWhorl(function, file string) bool {
	rest, ours := strings.CutPrefix(function, module)
	return ours && !strings.HasPrefix(rest, "examples/") && !strings.HasSuffix(file, "_test.go")
}
