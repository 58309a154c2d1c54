package stream

import (
	"context"
	"time"

	"github.com/whorl-go/whorl/internal/sched"
)

// StreamTarget is what a URL of a stream comes to.
type StreamTarget struct {
	Transport, Network, Host, Path string
	Port                           uint16
	Secure                         bool
}

// ParseStreamURL is parseStreamURL.
func ParseStreamURL(text string) (StreamTarget, error) {
	u, err := parseStreamURL(text)
	if err != nil {
		return StreamTarget{}, err
	}
	return StreamTarget{u.name, u.network, u.host, u.path, u.port, u.secure}, nil
}

// StreamAddress is what the socket of a client connects to.
func StreamAddress(text string) string {
	u, err := parseStreamURL(text)
	if err != nil {
		return ""
	}
	return u.address()
}

// CipherOf returns what metadata tell of a cipher.
var CipherOf = cryptoOf

// SockOpt returns an option of the socket.
func (s *Stream) SockOpt(level, name int) (int, error) { return s.socket.Option(level, name) }

// Reading reports whether somebody has the direction of reading, and Writing that of writing.
func (s *Stream) Reading() bool { return s.rd.busy.Load() }
func (s *Stream) Writing() bool { return s.wr.busy.Load() }

// WaitFired has something happen, or not, between the look and the wait of a select that may wait
// for timeout.
func WaitFired(ctx context.Context, fired bool, timeout time.Duration) error {
	sel := new(selection)
	if fired {
		sel.fire()
		sel.fire()
	}
	return sel.wait(ctx, sched.DeadlineAfter(timeout))
}

// SplitLines returns the lines of data as a stream that is fed so many bytes at a time finds them.
// Each time it has found none, it is asked anew.
func SplitLines(data []byte, feed, max int, ending string, keep bool) (lines []string) {
	var l streamLines
	want := streamLines{ending: []byte(ending), max: max, keep: keep}
	for start, have := 0, 0; ; {
		l.ask(want)
		advance, line, err := l.Next(data[start:have], have == len(data))
		if start += advance; line != nil {
			lines = append(lines, string(line))
			continue
		}
		if have == len(data) || err != nil {
			return lines
		}
		have = min(have+feed, len(data))
	}
}
