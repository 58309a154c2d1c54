//go:build (!linux || gnetpoll) && (poll_opt || !(linux || darwin || freebsd || netbsd || openbsd))

package eventloop_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/eventloop"
)

func TestASystemWithoutAPollerSaysSo(t *testing.T) {
	_, err := eventloop.New(eventloop.Config{})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "epoll") ||
		!strings.Contains(err.Error(), runtime.GOOS) {
		t.Error(err)
	}
}
