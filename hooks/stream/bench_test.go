//go:build linux

package stream_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/runtime"
)

// BenchmarkStreamSelect is one byte that goes to one of many streams, and the select that finds it.
func BenchmarkStreamSelect(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			err := runtime.Run(func(ctx context.Context) error {
				near, far := make([]*stream.Stream, n), make(map[int]*stream.Stream, n)
				for i := range near {
					var err error
					if near[i], far[i], err = stream.SocketPair(ctx, "unix"); err != nil {
						return err
					}
					defer near[i].Close()
					defer far[i].Close()
				}
				p := make([]byte, 1)
				i := 0
				for b.Loop() {
					if _, err := near[i%n].Write(ctx, p); err != nil {
						return err
					}
					ready, err := stream.Select(ctx, far, nil, nil, -1)
					if err != nil || ready.Read[i%n] == nil {
						return fmt.Errorf("%v, %v", ready, err)
					}
					if _, err := ready.Read[i%n].Read(ctx, p); err != nil {
						return err
					}
					i++
				}
				return nil
			}, quiet...)
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
