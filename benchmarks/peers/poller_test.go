//go:build linux

package peers

import (
	"fmt"
	"syscall"
	"testing"
	"unsafe"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"github.com/panjf2000/gnet/v2/pkg/queue"
	"golang.org/x/sys/unix"

	gneterrors "github.com/panjf2000/gnet/v2/pkg/errors"

	"github.com/whorl-go/whorl/eventloop"
)

// BenchmarkPoller compares Whorl's own poller with gnet's pkg/netpoll, under the same load and with
// the same system calls for reading and writing: n pairs of sockets throw 64 bytes to and fro on
// one loop. An operation is one read and one write.
//
// "defer" also has a function run at the end of each iteration, for which gnet's poller, which has
// no such hook, needs its task queue: a write to its eventfd and one more poll. That is what
// timers, deferred functions and writes that are gathered need in every iteration.
func BenchmarkPoller(b *testing.B) {
	for _, pairs := range []int{1, 100, 1000} {
		for _, hook := range []string{"plain", "defer"} {
			b.Run(fmt.Sprintf("%s/pairs=%d/whorl", hook, pairs), func(b *testing.B) {
				benchWhorl(b, pairs, hook == "defer")
			})
			b.Run(fmt.Sprintf("%s/pairs=%d/gnet", hook, pairs), func(b *testing.B) {
				benchGnet(b, pairs, hook == "defer")
			})
		}
	}
}

// socketPairs makes connected sockets and gets the ball rolling on each pair.
func socketPairs(b *testing.B, pairs int) (all [][2]int) {
	for range pairs {
		pair, err := unix.Socketpair(unix.AF_UNIX,
			unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
		all = append(all, pair)
	}
	return all
}

func kickOff(all [][2]int) {
	var ball [64]byte
	for _, pair := range all {
		unix.Write(pair[0], ball[:])
	}
}

// cpuTime returns the CPU time that the process has used, in nanoseconds. Unlike the time on the
// wall it doesn't count what other processes take.
func cpuTime() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// bounce reads what has come and sends it back.
func bounce(fd int, buf *[64]byte) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(buf)), 64)
	if errno != 0 || n == 0 {
		return
	}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(buf)), n)
}

type bouncer struct {
	fd         int
	buf        *[64]byte
	done       func()
	descriptor eventloop.Descriptor
}

func (h *bouncer) HandleEvents(eventloop.Events) {
	bounce(h.fd, h.buf)
	h.done()
}

func benchWhorl(b *testing.B, pairs int, hook bool) {
	l, err := eventloop.New(eventloop.Config{Watchdog: 0})
	if err != nil {
		b.Fatal(err)
	}
	var buf [64]byte
	ops, deferred := 0, false
	atEnd := func() { deferred = false }
	done := func() {
		if ops++; ops == b.N {
			l.Close()
		}
		if hook && !deferred {
			deferred = true
			l.Defer(atEnd)
		}
	}
	all := socketPairs(b, pairs)
	for _, pair := range all {
		for _, fd := range pair {
			h := &bouncer{fd: fd, buf: &buf, done: done}
			if err := l.Register(&h.descriptor, fd, eventloop.Readable|eventloop.EdgeTriggered,
				h); err != nil {
				b.Fatal(err)
			}
		}
	}
	kickOff(all)
	b.ResetTimer()
	before := cpuTime()
	l.Run()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func benchGnet(b *testing.B, pairs int, hook bool) {
	p, err := netpoll.OpenPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var buf [64]byte
	ops, deferred := 0, false
	atEnd := func(any) error { deferred = false; return nil }
	all := socketPairs(b, pairs)
	for _, pair := range all {
		for _, fd := range pair {
			if err := p.AddRead(&netpoll.PollAttachment{FD: fd}, true); err != nil {
				b.Fatal(err)
			}
		}
	}
	kickOff(all)
	b.ResetTimer()
	before := cpuTime()
	err = p.Polling(func(fd int, _ netpoll.IOEvent, _ netpoll.IOFlags) error {
		bounce(fd, &buf)
		if ops++; ops == b.N {
			return gneterrors.ErrEngineShutdown
		}
		if hook && !deferred {
			deferred = true
			return p.Trigger(queue.HighPriority, atEnd, nil)
		}
		return nil
	})
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
	if err != nil && err != gneterrors.ErrEngineShutdown && err != syscall.EINTR {
		b.Fatal(err)
	}
}
