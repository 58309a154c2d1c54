//go:build linux

package porting_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/runtime"
)

func Example_signals() {
	err := runtime.Run(func(ctx context.Context) error {
		kill := func(sig syscall.Signal) { // soon
			event.After(ctx, 10*time.Millisecond, func(context.Context) {
				syscall.Kill(os.Getpid(), sig)
			})
		}
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := runtime.WaitSignal(short, syscall.SIGUSR1)
		fmt.Println("nothing comes:", errors.Is(err, context.DeadlineExceeded))
		kill(syscall.SIGUSR1)
		sig, err := runtime.WaitSignal(ctx, syscall.SIGUSR1)
		fmt.Println("SIGUSR1:", sig, err)
		kill(syscall.SIGUSR2)
		sig, err = runtime.WaitSignal(ctx, syscall.SIGUSR1, syscall.SIGUSR2)
		fmt.Println("SIGUSR1 or SIGUSR2:", sig, err)

		kill(syscall.SIGUSR1) // two wait for one signal, and both get it
		return runtime.ForEach(ctx, 2, func(ctx context.Context, i int) error {
			sig, err := runtime.WaitSignal(ctx, syscall.SIGUSR1)
			fmt.Printf("waiter %d of two: %v\n", i+1, sig)
			return err
		})
	}, runtime.WithLoops(1))
	fmt.Println(err)
	// Output:
	// nothing comes: true
	// SIGUSR1: user defined signal 1 <nil>
	// SIGUSR1 or SIGUSR2: user defined signal 2 <nil>
	// waiter 1 of two: user defined signal 1
	// waiter 2 of two: user defined signal 1
	// <nil>
}
