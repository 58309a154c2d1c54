package bench

import (
	"fmt"
	"time"

	"github.com/whorl-go/whorl/internal/bench/proc"
	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/unix"
)

// instant is what was used up by a moment.
type instant struct {
	at         time.Duration
	cpu        time.Duration // of this process
	busy, all  time.Duration // of the machine's processors; 0: unknown
	stallCount uint64        // of the loops
}

// takeInstant looks at the counters of process and machine.
func takeInstant(at time.Duration) instant {
	i := instant{at: at}
	if user, kernel, err := unix.CPUTime(); err == nil {
		i.cpu = user + kernel
	}
	i.busy, i.all = proc.MachineCPU()
	return i
}

// usage is what a run has used, and what it could have.
type usage struct {
	wall, cpu  time.Duration
	processors float64 // that the generator may use: no more than it has loops
	// share of the machine's processors that was busy, the generator's own included; 0: unknown
	machine float64
	stalls  uint64 // how often a loop stood still

	operations int64
	late       lateness
	rate       float64 // that was asked for; 0: closed loop
	achieved   float64
}

func (u *usage) between(from, to instant) {
	u.wall, u.cpu = to.at-from.at, to.cpu-from.cpu
	u.stalls = to.stallCount - from.stallCount
	if all := to.all - from.all; all > 0 {
		u.machine = (to.busy - from.busy).Seconds() / all.Seconds()
	}
}

// From when on a generator counts as being at its limit.
const (
	mostCPU = 0.85 // of the processor time that it may use
	// of the operations of an open loop, begun late by the generator's own fault
	mostLate      = 0.01
	machineIsBusy = 0.95
	shortestJudge = 50 * time.Millisecond // the clocks of processor time are too coarse for less
)

// share returns the processor time that was used, as a share of what the generator may use.
func (u *usage) share() float64 {
	if u.wall <= 0 || u.processors <= 0 {
		return 0
	}
	return u.cpu.Seconds() / u.wall.Seconds() / u.processors
}

// limits says in which respects the generator itself was the limit.
func (u *usage) limits() []string {
	limits := []string{}
	if share := u.share(); share > mostCPU && u.wall >= shortestJudge {
		limits = append(limits,
			fmt.Sprintf("it used %.0f %% of the %.4g processors that it may use: give it more "+
				"(--loops, GOMAXPROCS) or a machine of its own",
				100*share, u.processors))
	}
	if u.operations > 0 && float64(u.late.woken) > mostLate*float64(u.operations) {
		limits = append(limits,
			fmt.Sprintf("%d of %d operations were begun more than %v late though a connection "+
				"was free", u.late.woken, u.operations, late))
	}
	return limits
}

// notes says what else has to be known to read the figures.
func (u *usage) notes() []string {
	notes := []string{}
	if u.rate > 0 && u.achieved < report.RateKept*u.rate && u.wall >= shortestJudge {
		why := "the server is slower than that, or -c is too small"
		if u.achieved == 0 {
			why = "no operation has succeeded, see the errors"
		} else if len(u.limits()) > 0 {
			why = "the generator was at its limit, so it can't be told whether the server is " +
				"slower than that"
		}
		notes = append(notes,
			fmt.Sprintf("the rate of %.6g/s was not reached: %d operations began late "+
				"because all connections were busy; %s", u.rate, u.late.busy, why))
	}
	if u.machine > machineIsBusy && u.wall >= shortestJudge {
		notes = append(notes,
			fmt.Sprintf("the processors of this machine were %.0f %% busy, with the generator's "+
				"own work: what else runs here, "+
				"such as the server, had to share them with it", 100*u.machine))
	}
	if u.stalls > 0 {
		notes = append(notes,
			fmt.Sprintf("a loop of the generator stood still for more than %v, %d times",
				stallLimit, u.stalls))
	}
	return notes
}
