// Package fallback is the runtime of those who have none.
package fallback

import (
	"context"
	"sync"

	"github.com/whorl-go/whorl/internal/house"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

var fallback struct {
	mu sync.Mutex
	rt *runtime.Runtime // guarded by mu
}

// Runtime returns the runtime that it has started, and starts one if there is none or it has been
// shut down.
func Runtime() (*runtime.Runtime, error) {
	fallback.mu.Lock()
	defer fallback.mu.Unlock()
	if fallback.rt != nil && fallback.rt.Context().Err() == nil {
		return fallback.rt, nil
	}
	rt, err := runtime.New(runtime.WithName("hooks"))
	if err != nil {
		return nil, err
	}
	if err := rt.Start(); err != nil {
		return nil, err
	}
	fallback.rt = rt
	return rt, nil
}

// Within returns a context that says which runtime a new socket belongs to: the one that ctx says
// or the caller belongs to, else preferred, else the only one, else the default one.
func Within(ctx context.Context, preferred *runtime.Runtime) (context.Context, error) {
	if preferred != nil {
		return runtimeContext{ctx, preferred}, nil
	}
	if _, err := runtime.From(ctx); err == nil {
		return ctx, nil
	}
	rt, err := Runtime()
	if err != nil {
		return nil, err
	}
	return runtimeContext{ctx, rt}, nil
}

// WithinAs is Within for something new that comes of a socket: if neither ctx nor the caller says
// which runtime, it belongs to the socket's.
func WithinAs(ctx context.Context, s *socket.Socket) context.Context {
	if _, err := runtime.From(ctx); err == nil {
		return ctx
	}
	if home, ok := socket.House(s, house.Key{}).Home(); ok {
		return runtimeContext{ctx, (*runtime.Runtime)(home.Runtime())}
	}
	return ctx
}

// runtimeContext is a context with a runtime for the case that it comes from none.
type runtimeContext struct {
	context.Context
	rt *runtime.Runtime
}

func (c runtimeContext) Value(key any) any {
	if value := c.Context.Value(key); value != nil {
		return value
	}
	return c.rt.Context().Value(key)
}
