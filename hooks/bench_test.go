//go:build linux

package hooks_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/runtime"
)

// Messages of 64 bytes go to a server in another process and come back, over the same code on a
// net.Conn: those of package net, hooked ones from plain goroutines, and hooked ones from
// coroutines. cpu-ns/op is this process's CPU time, kernel-ns/op the part of it in the kernel.
func BenchmarkRoundTrip(b *testing.B) {
	address := startEchoes(b)
	for _, connections := range []int{1, 1000} {
		name := fmt.Sprintf("connections=%d", connections)
		b.Run("net/"+name, func(b *testing.B) { fromGoroutines(b, connections, address, net.Dial) })
		b.Run("goroutines/"+name, func(b *testing.B) {
			ctx := start(b)
			dialer := new(hooks.Dialer)
			fromGoroutines(b, connections, address, func(network, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			})
		})
		b.Run("coroutines/"+name, func(b *testing.B) { fromCoroutines(b, connections, address) })
	}
}

// share returns how many of n the i-th of several workers does.
func share(n, i, workers int) int { return (i+1)*n/workers - i*n/workers }

func roundTrips(conn net.Conn, n int) error {
	message, answer := make([]byte, 64), make([]byte, 64)
	for range n {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
	}
	return nil
}

func fromGoroutines(b *testing.B, connections int, address string, dial func(network, address string) (net.Conn, error)) {
	conns := make([]net.Conn, connections)
	for i := range conns {
		conn, err := dial("tcp", address)
		check(b, err)
		defer conn.Close()
		conns[i] = conn
	}
	done := measure(b)
	var group sync.WaitGroup
	for i, conn := range conns {
		group.Go(func() {
			if err := roundTrips(conn, share(b.N, i, connections)); err != nil {
				b.Error(err)
			}
		})
	}
	group.Wait()
	done()
}

func fromCoroutines(b *testing.B, connections int, address string) {
	ctx := start(b)
	rt, err := runtime.From(ctx)
	check(b, err)
	var connected, begin, ended runtime.WaitGroup
	connected.Add(connections)
	begin.Add(1)
	ended.Add(connections)
	for i := range connections {
		_, err := rt.Go(func(ctx context.Context) {
			defer ended.Done()
			conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", address)
			connected.Done()
			if err == nil {
				defer conn.Close()
				begin.Wait(ctx)
				err = roundTrips(conn, share(b.N, i, connections))
			}
			if err != nil {
				b.Error(err)
			}
		})
		check(b, err)
	}
	check(b, connected.Wait(ctx))
	done := measure(b)
	begin.Done()
	check(b, ended.Wait(ctx))
	done()
}

// measure resets the benchmark and returns a function that reports the CPU time used until then,
// divided by b.N: all of it, and the kernel's part.
func measure(b *testing.B) (done func()) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	userBefore, kernelBefore := childtest.UserAndKernelTime()
	return func() {
		user, kernel := childtest.UserAndKernelTime()
		b.StopTimer()
		user, kernel = user-userBefore, kernel-kernelBefore
		b.ReportMetric(float64(user+kernel)/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(kernel)/float64(b.N), "kernel-ns/op")
	}
}
