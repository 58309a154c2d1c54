//go:build unix

package eventloop_test

import (
	"testing"
	"time"

	"github.com/whorl-go/whorl/eventloop"
)

// Quiet is what the floors above go by when they look for a deadlock.
func TestQuietMeansThatNothingOfTheLoopsOwnIsComing(t *testing.T) {
	l := start(t)
	on(t, l, func() {
		if l.Stats().Quiet {
			t.Error("a loop that runs a function is quiet")
		}
	})
	awaitSleep(t, l)
	if !l.Stats().Quiet {
		t.Error("a loop that sleeps, with nothing to wait for, isn't quiet")
	}
	var timer *eventloop.Timer
	for _, set := range []struct {
		name string
		on   func()
	}{
		{"in a posted function", func() { timer = l.AfterFunc(time.Hour, func() {}) }},
		{"in BeforePoll", func() {
			l.BeforePoll(func() {
				l.BeforePoll(nil)
				timer = l.AfterFunc(time.Hour, func() {})
			})
		}},
	} {
		var before uint64
		on(t, l, func() { before = l.Stats().Sleeps; set.on() })
		for asleep, deadline := false, time.Now().Add(patience); !asleep && time.Now().Before(deadline); {
			asleep = l.Stats().Sleeps > before
			if l.Stats().Quiet {
				t.Fatalf("a loop with a timer that was set %s is quiet", set.name)
			}
		}
		on(t, l, func() { timer.Disarm() })
		awaitSleep(t, l)
		if !l.Stats().Quiet {
			t.Errorf("a loop whose timer is disarmed isn't quiet")
		}
	}
	held := make(chan struct{})
	l.Post(func() { <-held })
	for range 1000 {
		if l.Stats().Quiet {
			t.Fatal("a loop that has been posted to is quiet")
		}
	}
	close(held)
}
