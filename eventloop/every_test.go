package eventloop

import (
	"testing"
	"time"
)

func TestEveryKeepsItsBeat(t *testing.T) {
	const period = 100 * time.Microsecond
	l := new(Loop)
	var fired []int64 // the beats that have fired, by their due times
	var due int64     // of the next beat
	timer := l.Every(period, func() { fired = append(fired, due) })
	first := timer.when
	due = first
	for len(fired) < 200 {
		before := len(fired)
		if len(fired)%10 == 9 { // now and then the loop is held for some beats
			for hold := timer.when + 3*int64(period) + int64(period)/2; nanotime() < hold; {
			}
		}
		start := nanotime()
		l.runTimers()
		end := nanotime()
		if len(fired) > before+1 {
			t.Fatalf("%d beats at once", len(fired)-before)
		}
		if len(fired) == before {
			if due <= start {
				t.Fatalf("the beat of %d didn't fire at %d", due, start)
			}
			continue
		}
		if due > end {
			t.Fatalf("the beat of %d fired at %d", due, end)
		}
		if (timer.when-first)%int64(period) != 0 {
			t.Fatalf("after %d beats the timer has drifted by %v", len(fired), time.Duration((timer.when-first)%int64(period)))
		}
		if timer.when <= start || timer.when > end+int64(period) {
			t.Fatalf("after the beat of %d, fired between %d and %d, the next is set to %d", due, start, end, timer.when)
		}
		due = timer.when
	}
	skipped := (due-first)/int64(period) - int64(len(fired))
	if skipped < 3*20 {
		t.Errorf("only %d beats were skipped, though the loop was held 20 times for 3 beats and more", skipped)
	}
}

func TestResetMovesTheBeat(t *testing.T) {
	l := new(Loop)
	const period = 100 * time.Microsecond
	timer := l.Every(period, func() {})
	earliest := nanotime() + int64(time.Millisecond)
	timer.Reset(time.Millisecond)
	first := timer.when
	if first < earliest {
		t.Fatalf("the first beat after Reset is due at %d, before %d", first, earliest)
	}
	for timer.when == first {
		l.runTimers()
	}
	if passed := timer.when - first; passed <= 0 || passed%int64(period) != 0 {
		t.Errorf("the next beat is %v later, which is no multiple of %v", time.Duration(passed), period)
	}
}
