package sched

import (
	"fmt"
	"os"
	goruntime "runtime"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config is what a runtime is made with. Its fields are the options of package runtime.
type Config struct {
	Name          string
	Loops         int
	Log           *zap.Logger
	Watchdog      time.Duration
	MaxCoroutines int64
	AwaitLimit    int
	OnPanic       func(co *Coroutine, err *PanicError)
	Deadlock      Deadlock
}

// Deadlock is what Run does about a deadlock.
type Deadlock uint8

const (
	DeadlockIgnored Deadlock = iota
	DeadlockIsLogged
	DeadlockIsError
)

// Defaults returns the Config of a runtime without options.
func Defaults() Config {
	return Config{
		Name:          "whorl",
		Loops:         goruntime.GOMAXPROCS(0),
		Log:           stderrLogger(),
		Watchdog:      100 * time.Millisecond,
		MaxCoroutines: 1_000_000,
		AwaitLimit:    256,
		Deadlock:      DeadlockIsLogged,
	}
}

func (c *Config) check() error {
	switch {
	case c.Loops < 1:
		return fmt.Errorf("runtime: WithLoops(%d): at least one loop is needed", c.Loops)
	case c.MaxCoroutines < 1:
		return fmt.Errorf("runtime: WithMaxCoroutines(%d): at least one is needed", c.MaxCoroutines)
	case c.AwaitLimit < 1:
		return fmt.Errorf("runtime: WithAwaitLimit(%d): at least one is needed", c.AwaitLimit)
	}
	return nil
}

// stderrLogger makes sure that panics and stalls are seen when nobody has said where to.
func stderrLogger() *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.WarnLevel))
}
