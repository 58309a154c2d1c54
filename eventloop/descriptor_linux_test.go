package eventloop_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
)

func TestEventsAreThoseOfEpoll(t *testing.T) {
	for events, bit := range map[eventloop.Events]uint32{
		eventloop.Readable:      unix.EPOLLIN,
		eventloop.Urgent:        unix.EPOLLPRI,
		eventloop.Writable:      unix.EPOLLOUT,
		eventloop.Error:         unix.EPOLLERR,
		eventloop.Hangup:        unix.EPOLLHUP,
		eventloop.PeerClosed:    unix.EPOLLRDHUP,
		eventloop.EdgeTriggered: unix.EPOLLET,
	} {
		if uint32(events) != bit {
			t.Errorf("%#x is %#x in epoll_ctl(2)", uint32(events), bit)
		}
	}
}

func TestTheEndOfAPeerIsReported(t *testing.T) {
	l := start(t)
	for _, end := range []struct {
		name string
		make func(t *testing.T) (fd int, end func())
		ask  eventloop.Events
		want eventloop.Events
	}{
		{"socket half closed", func(t *testing.T) (int, func()) {
			a, b := newSocketPair(t)
			return a, func() { unix.Shutdown(b, unix.SHUT_WR) }
		}, readable | peerClosed, readable | peerClosed},
		{"socket closed", func(t *testing.T) (int, func()) {
			a, b := newSocketPair(t)
			return a, func() { unix.Shutdown(b, unix.SHUT_RDWR) }
		}, readable | peerClosed, readable | peerClosed | eventloop.Hangup},
		{"socket closed, nothing asked for", func(t *testing.T) (int, func()) {
			a, b := newSocketPair(t)
			return a, func() { unix.Shutdown(b, unix.SHUT_RDWR) }
		}, 0, eventloop.Hangup},
		{"writer of a pipe gone", func(t *testing.T) (int, func()) {
			var pair [2]int
			unix.Pipe(pair[:])
			t.Cleanup(func() { unix.Close(pair[0]) })
			return pair[0], func() { unix.Close(pair[1]) }
		}, 0, eventloop.Hangup},
		{"reader of a pipe gone", func(t *testing.T) (int, func()) {
			var pair [2]int
			unix.Pipe(pair[:])
			t.Cleanup(func() { unix.Close(pair[1]) })
			return pair[1], func() { unix.Close(pair[0]) }
		}, 0, eventloop.Error},
	} {
		t.Run(end.name, func(t *testing.T) {
			fd, peerEnds := end.make(t)
			got := make(chan eventloop.Events, 1)
			register(t, l, fd, end.ask|edgeTriggered, func(e eventloop.Events) { got <- e })
			on(t, l, func() {})
			select {
			case e := <-got:
				t.Fatalf("%#x is reported before the peer has ended", uint32(e))
			default:
			}
			peerEnds()
			if e := await(t, got); e != end.want {
				t.Errorf("%#x is reported, not %#x", uint32(e), uint32(end.want))
			}
		})
	}
}

// When a loop ends, its descriptors' numbers are free and soon somebody else's. Who still posts or
// registers at that moment must not write to what has them now.
func TestALoopThatClosesTouchesNoForeignDescriptor(t *testing.T) {
	idle := newFlag(t)
	raise(t, idle)
	over := func(err error) bool {
		return errors.Is(err, eventloop.ErrClosed) || errors.Is(err, eventloop.ErrNotRegistered)
	}
	for range 500 {
		l := newLoop(t)
		ended := run(t, l)
		var wg sync.WaitGroup
		busy := make(chan struct{}, 4)
		for range cap(busy) / 2 {
			wg.Go(func() {
				for n := 0; l.Post(func() {}) == nil; n++ {
					if n == 10 {
						busy <- struct{}{}
					}
					runtime.Gosched()
				}
			})
			wg.Go(func() {
				fd, err := unix.Dup(idle)
				if err != nil {
					t.Error(err)
					return
				}
				defer unix.Close(fd)
				for n := 0; ; n++ {
					var d eventloop.Descriptor
					err := l.Register(&d, fd, readable|edgeTriggered, handlerFunc(func(eventloop.Events) {}))
					if err != nil {
						if !errors.Is(err, eventloop.ErrClosed) {
							t.Errorf("Register: %v", err)
						}
						return
					}
					if err := d.Modify(writable | edgeTriggered); err != nil && !over(err) {
						t.Errorf("Modify: %v", err)
					}
					if err := d.Unregister(); err != nil && !over(err) {
						t.Errorf("Unregister: %v", err)
					}
					if n == 10 {
						busy <- struct{}{}
					}
					runtime.Gosched()
				}
			})
		}
		for range cap(busy) {
			await(t, busy)
		}
		l.Close()
		if err := await(t, ended); err != nil {
			t.Error(err)
		}

		// Take the numbers at once, whichever of the loop's each was.
		var canaries []int
		for i := range 8 {
			var fd int
			var err error
			if i%2 == 0 {
				fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			} else {
				fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
			}
			if err != nil {
				t.Fatal(err)
			}
			canaries = append(canaries, fd)
		}
		wg.Wait()
		for i, fd := range canaries {
			if i%2 == 0 {
				if n, _ := unix.EpollWait(fd, make([]unix.EpollEvent, 4), 0); n != 0 {
					t.Errorf("somebody registered a descriptor with a foreign epoll instance")
				}
			} else if lower(fd) {
				t.Errorf("somebody wrote to a foreign eventfd")
			}
			unix.Close(fd)
		}
		if t.Failed() {
			return
		}
	}
}
