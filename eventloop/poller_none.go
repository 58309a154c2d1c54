//go:build (!linux || gnetpoll) && (poll_opt || !(linux || darwin || freebsd || netbsd || openbsd))

package eventloop

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// poller is for systems without epoll and kqueue, and for builds with gnet's tag poll_opt, which
// takes our poller's ground away. Whorl compiles there, so that one can work on it, and New says
// that it can't run.
type poller struct{}

func openPoller() (*poller, error) {
	return nil, fmt.Errorf("Whorl needs epoll (Linux) or kqueue (macOS, BSD, without the build tag "+
		"poll_opt) and can't run on this build for %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (p *poller) close()                           {}
func (p *poller) poll() int                        { return 0 }
func (p *poller) wait(time.Duration) int           { return 0 }
func (p *poller) event(int) (int, uint32, Events)  { return 0, 0, 0 }
func (p *poller) wake()                            {}
func (p *poller) add(int, uint32, Events) error    { return errors.ErrUnsupported }
func (p *poller) modify(int, uint32, Events) error { return errors.ErrUnsupported }
func (p *poller) remove(int)                       {}
