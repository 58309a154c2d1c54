package swoole

import (
	"fmt"
	"time"

	"github.com/whorl-go/whorl/internal/option"
	"github.com/whorl-go/whorl/socket"
)

// keepAlive is what the options about TCP's keep-alive probes ask for.
type keepAlive struct {
	on             *bool
	idle, interval time.Duration
	count          int
}

// keepAliveTable has these options, for settings that have a keepAlive in them.
func keepAliveTable[S any](of func(*S) *keepAlive) option.Table[S] {
	return option.Table[S]{
		"open_tcp_keepalive": option.StoreGiven(
			option.Bool,
			func(s *S) **bool { return &of(s).on },
		),
		"tcp_keepidle": option.Store(
			probeTime,
			func(s *S) *time.Duration { return &of(s).idle },
		),
		"tcp_keepinterval": option.Store(
			probeTime,
			func(s *S) *time.Duration { return &of(s).interval },
		),
		"tcp_keepcount": option.Store(probes, func(s *S) *int { return &of(s).count }),
	}
}

// config returns what the options come to.
func (k *keepAlive) config() (socket.KeepAlive, error) {
	for _, of := range []struct {
		name  string
		given bool
	}{{"tcp_keepidle", k.idle != 0}, {"tcp_keepinterval", k.interval != 0}, {"tcp_keepcount", k.count != 0}} {
		if of.given && !option.Is(k.on, false) {
			return socket.KeepAlive{}, optionError(of.name, "needs open_tcp_keepalive")
		}
	}
	if !option.Is(k.on, true) {
		return socket.KeepAlive{Idle: -1}, nil
	}
	return socket.KeepAlive{Idle: k.idle, Interval: k.interval, Count: k.count}, nil
}

// probeTime takes whole seconds, within the kernel's bounds (tcp(7)).
func probeTime(value any) (time.Duration, error) {
	n, err := option.Int(value)
	if err == nil && (n < 1 || n > 32767) {
		err = fmt.Errorf("want 1 to 32767 seconds, got %d", n)
	}
	return time.Duration(n) * time.Second, err
}

// probes takes how many probes go unanswered before the connection ends.
func probes(value any) (int, error) {
	n, err := option.Int(value)
	if err == nil && (n < 1 || n > 127) {
		err = fmt.Errorf("want 1 to 127, got %d", n)
	}
	return n, err
}
