// Package turn bounds for how long something may go on before others get their turn.
//
// It is a bound on operations, on bytes and on time. An operation counts as one unit, and as one
// more for each 4 KiB that it has moved. After 16 units there is a look at the clock: the first
// look sets the end of the turn, and one that finds the end passed ends it. So cheap operations go
// on for as long as the turn may take, with hardly any cost for counting them, and expensive ones
// end it soon: nothing goes on for longer than the turn and 32 operations.
package turn

import (
	"time"

	"github.com/whorl-go/whorl/internal/clock"
)

const (
	// Look is the number of units between two looks at the clock.
	Look = 16
	// Unit is the number of bytes that count as one unit.
	Unit = 4 << 10

	// Coroutine is how long a coroutine, or a connection that is served by callbacks, may go on.
	Coroutine = 100 * time.Microsecond
	// Step is how long a loop may go on with its posted tasks, its timers or its deferred functions
	// before it polls again.
	Step = time.Millisecond
)

// A Budget is what is left of a turn. The zero Budget has none; Renew begins a turn.
type Budget struct {
	left int           // units until the next look at the clock
	end  time.Duration // of the turn, on the clock; 0 before the first look
}

// Renew begins another turn.
func (b *Budget) Renew() { *b = Budget{left: Look} }

// Count counts an operation that has moved n bytes.
func (b *Budget) Count(n int) { b.left -= 1 + n/Unit }

// Spent reports whether a turn that may take so long is over. It stays over until Renew.
func (b *Budget) Spent(length time.Duration) bool { return b.left <= 0 && b.look(length) }

func (b *Budget) look(length time.Duration) bool {
	switch now := clock.Now(); {
	case b.end == 0:
		b.end = now + length
	case now > b.end:
		return true
	}
	b.left = Look
	return false
}
