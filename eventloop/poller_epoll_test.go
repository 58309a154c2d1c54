//go:build linux && !gnetpoll

package eventloop

import (
	"testing"
	"time"
)

// Before Linux 5.11 and under some seccomp filters there is no epoll_pwait2(2), and the poll's
// time-out is in milliseconds.
func TestTimersNeverFireEarlyWithAPollInMilliseconds(t *testing.T) {
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l.poller.coarse = true
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	fired := make(chan time.Duration)
	for d := time.Microsecond; d < 10*time.Millisecond; d = d*3/2 + 1 {
		before := l.Stats().Iterations
		l.Post(func() {
			set := time.Now()
			l.AfterFunc(d, func() { fired <- time.Since(set) })
		})
		if after := <-fired; after < d {
			t.Errorf("a timer of %v fired after %v", d, after)
		}
		// A time-out that was rounded down would have the loop spin through the last millisecond.
		if n := l.Stats().Iterations - before; n > 20 {
			t.Errorf("%d polls for one timer of %v", n, d)
		}
	}
	l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
