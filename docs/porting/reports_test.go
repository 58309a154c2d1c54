//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
)

// place is where in a program something is reported: it differs from machine to machine.
var place = regexp.MustCompile(`/\S+\.go:\d+`)

// guide returns the porting guide, with all places alike.
func guide(t *testing.T) string {
	text, err := os.ReadFile("../porting-from-swoole.md")
	leaktest.Check(t, err)
	return place.ReplaceAllString(string(text), "PLACE")
}

// The guide quotes the watchdog as it speaks.
func TestTheWatchdogSaysWhatTheGuideQuotes(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	leaktest.Check(t, runtime.Run(func(context.Context) error {
		for end := time.Now().Add(leaktest.Patience); logs.Len() == 0; {
			if time.Sleep(time.Millisecond); time.Now().After(end) { // holds the loop
				return errors.New("the watchdog says nothing")
			}
		}
		return nil
	}, runtime.WithLogger(zap.New(core)), runtime.WithWatchdog(20*time.Millisecond)))
	text := guide(t)
	entry := logs.All()[0]
	if !strings.Contains(text, "WARN  "+entry.Message+"\n") {
		t.Errorf("the guide doesn't quote %q", entry.Message)
	}
	for _, field := range []string{"at", "loop", "longer than"} {
		if _, ok := entry.ContextMap()[field]; !ok || !strings.Contains(text, fmt.Sprintf("%q:", field)) {
			t.Errorf("%s is not in the report, or not in the guide", field)
		}
	}
}

// The guide quotes the report of a deadlock as it is.
func TestADeadlockIsReportedAsTheGuideQuotes(t *testing.T) {
	err := runtime.Run(func(ctx context.Context) error {
		ch := runtime.NewChannel[int](1)
		var group runtime.WaitGroup
		_, err := runtime.Go(ctx, func(ctx context.Context) {
			group.Go(ctx, func(ctx context.Context) { ch.Pop(ctx) })
			group.Wait(ctx)
		})
		return err
	}, runtime.WithLoops(1), runtime.WithDeadlockError())
	deadlock, ok := errors.AsType[*runtime.DeadlockError](err)
	if !ok || len(deadlock.Coroutines) != 2 {
		t.Fatal(err)
	}
	text := guide(t)
	for _, co := range deadlock.Coroutines {
		line := place.ReplaceAllString(fmt.Sprintf("%s at %s", co.Waiting, co.Where), "PLACE")
		if !strings.Contains(text, line) {
			t.Errorf("the guide doesn't quote %q", line)
		}
	}
}
