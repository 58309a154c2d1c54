package client

import (
	"math"
	"math/rand/v2"
	"time"
)

// Reconnect decides whether and when an Async connects again: a policy. It is asked on the Async's
// loop, must not wait, and may be asked on several loops at a time. The next attempt is to the
// address of Connect, whose name is looked up anew.
//
// Losses are counted: each attempt that fails and each connection that ends is one. A connection
// that has stood for at least Stable was a success, and the count begins anew; one that stood for
// less, such as with a server that accepts and closes at once, doesn't end the series.
type Reconnect interface {
	// Next returns how long to wait before the next attempt, which is made from 0 on, and whether
	// there is to be one. n is the number of losses in this series: 1, 2, … err is what OnError or
	// OnClose will be told right after.
	Next(a *Async, n int, err error) (delay time.Duration, again bool)

	// Stable returns how long a connection has to stand to be a success.
	Stable() time.Duration
}

// Defaults of Backoff.
const (
	DefaultBackoffFirst  = 500 * time.Millisecond
	DefaultBackoffMax    = time.Minute
	DefaultBackoffStable = 30 * time.Second
)

// Backoff is the usual Reconnect: exponential backoff with full jitter. The n-th delay of a series
// is a random time between 0 and First·2ⁿ⁻¹, at most Max. So clients that have lost their server at
// the same moment don't come back at the same moment. The zero Backoff is usable, and never gives
// up.
type Backoff struct {
	First       time.Duration // the most that the first delay can be; 0 means DefaultBackoffFirst
	Max         time.Duration // the most that any delay can be; 0 means DefaultBackoffMax
	MaxAttempts int           // attempts in a series; 0: any number
	StableAfter time.Duration // see Reconnect; 0 means DefaultBackoffStable

	// Permanent reports errors after which there is no point in trying again, such as a
	// *explain.HandshakeError. nil: none.
	Permanent func(err error) bool

	// Random returns a random number from 0 to n-1; n is positive. It may be called on several
	// loops at a time. nil: that of package math/rand/v2.
	Random func(n int64) int64
}

// Next is of Reconnect.
func (b Backoff) Next(_ *Async, n int, err error) (time.Duration, bool) {
	if b.MaxAttempts > 0 && n > b.MaxAttempts || b.Permanent != nil && b.Permanent(err) {
		return 0, false
	}
	most := min(orDefault(b.Max, DefaultBackoffMax), math.MaxInt64-1)
	bound := min(orDefault(b.First, DefaultBackoffFirst), most)
	for ; n > 1 && bound < most; n-- {
		if bound > most/2 {
			bound = most
		} else {
			bound *= 2
		}
	}
	random := b.Random
	if random == nil {
		random = rand.Int64N
	}
	return time.Duration(random(int64(bound) + 1)), true
}

// Stable is of Reconnect.
func (b Backoff) Stable() time.Duration { return orDefault(b.StableAfter, DefaultBackoffStable) }

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}
