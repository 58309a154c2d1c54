package hooks

import (
	"context"
	"sync"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// fallback is the runtime of those who have none.
var fallback struct {
	mu sync.Mutex
	rt *runtime.Runtime // guarded by mu
}

// Default returns the runtime that connections live on when nothing else says where: a dial or listen from a plain goroutine, with a context that comes from no
// runtime, in a process in which none runs, or several. It is started by the first call, and runs until somebody calls its Shutdown; the next call then starts another.
//
// A process that has runtimes of its own is better off naming one: by the context, or in the field Runtime. For as long as the default one runs, it counts
// as one that runs in the process, so package runtime's check for deadlocks can't be sure of any, and a context without a runtime is not enough any more where one is needed.
func Default() (*runtime.Runtime, error) {
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

// within returns a context that says which runtime a new socket belongs to: the one that ctx says or the caller belongs to, else preferred, else the only
// one, else the default one.
func within(ctx context.Context, preferred *runtime.Runtime) (context.Context, error) {
	if preferred != nil {
		return runtimeContext{ctx, preferred}, nil
	}
	if _, err := runtime.From(ctx); err == nil {
		return ctx, nil
	}
	rt, err := Default()
	if err != nil {
		return nil, err
	}
	return runtimeContext{ctx, rt}, nil
}

// withinAs is within for something new that comes of a socket: if ctx says nothing, nor the caller,
// it belongs to the socket's runtime.
func withinAs(ctx context.Context, s *socket.Socket) context.Context {
	if _, err := runtime.From(ctx); err == nil {
		return ctx
	}
	if home, ok := s.Home(); ok {
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
