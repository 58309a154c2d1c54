//go:build !linux

package eventloop

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// poller needs epoll. On other systems Whorl compiles, so that one can work on it there, and New
// says that it can't run.
type poller struct{ wakeFD int }

func openPoller() (*poller, error) {
	return nil, fmt.Errorf(
		"Whorl runs on Linux (it needs epoll), not on %s: %w",
		runtime.GOOS,
		errors.ErrUnsupported,
	)
}

func (p *poller) close()                           {}
func (p *poller) poll() int                        { return 0 }
func (p *poller) wait(time.Duration) int           { return 0 }
func (p *poller) event(int) (int, uint32, Events)  { return 0, 0, 0 }
func (p *poller) wake()                            {}
func (p *poller) add(int, uint32, Events) error    { return errors.ErrUnsupported }
func (p *poller) modify(int, uint32, Events) error { return errors.ErrUnsupported }
func (p *poller) remove(int)                       {}
