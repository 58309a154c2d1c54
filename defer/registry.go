package event

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whorl-go/whorl/eventloop"
	"github.com/whorl-go/whorl/internal/local"
	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/runtime"
)

var errNoFunction = errors.New("no function")

// run has fn called on the loop: now if the caller is there.
func run(home sched.Home, fn func()) error {
	if home.Here() {
		fn()
		return nil
	}
	if home.Loop().Post(fn) != nil {
		return runtime.ErrShutdown
	}
	return nil
}

// start starts a coroutine on the loop that the caller, a function of that loop, runs on, and
// returns when it waits or has ended. Without a caller who could be told, an error is logged; that
// of ctx and of Shutdown isn't, as these clear what is pending.
func start(ctx context.Context, log *zap.Logger, fn func(context.Context)) bool {
	_, err := runtime.Go(ctx, fn)
	if err != nil && err != runtime.ErrShutdown && ctx.Err() == nil {
		log.Error("event: function not called", zap.Error(err))
	}
	return err == nil
}

// registry knows what is set in one runtime. There is one from the first timer, descriptor or cycle
// function until Shutdown.
//
// Everything in maps timers and watches holds one Retain of the runtime: whoever takes it out of
// the map, and nobody else, releases it.
type registry struct {
	rt *sched.Runtime
	// quiet is for functions that are due again at once when they couldn't be called: it logs once
	// a second.
	quiet *zap.Logger

	mu      sync.Mutex
	closed  bool                    // guarded by mu, as is all that follows
	lastID  int64                   // of a timer
	timers  map[int64]*Timer        // by ID; those that are pending
	watches map[int]*watch          // by file descriptor
	cycles  map[cycleKey]*cycleSlot // those that were ever used
}

// registryKey is the key of a runtime's *registry, see internal/local.
type registryKey struct{}

func locals(rt *sched.Runtime) *sync.Map { return rt.Context().Value(local.Key{}).(*sync.Map) }

// registryOf returns the registry of a runtime that isn't shut down.
func registryOf(rt *sched.Runtime) (*registry, error) {
	if rt.Context().Err() != nil {
		return nil, runtime.ErrShutdown
	}
	if r, ok := locals(rt).Load(registryKey{}); ok {
		return r.(*registry), nil
	}
	r := &registry{
		rt: rt,
		quiet: rt.Logger().WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0)
		})),
		timers:  make(map[int64]*Timer),
		watches: make(map[int]*watch),
		cycles:  make(map[cycleKey]*cycleSlot),
	}
	if other, loaded := locals(rt).LoadOrStore(registryKey{}, r); loaded {
		return other.(*registry), nil
	}
	context.AfterFunc(rt.Context(), r.close) // at once if Shutdown has begun meanwhile
	return r, nil
}

// lookup returns the registry that a call with ctx is about, nil if there is none.
func lookup(ctx context.Context) *registry {
	var rt *sched.Runtime
	if co := sched.Current(ctx); co != nil {
		rt = co.Runtime()
	} else if rt, _ = sched.From(ctx); rt == nil {
		return nil
	}
	r, ok := locals(rt).Load(registryKey{})
	if !ok {
		return nil
	}
	return r.(*registry)
}

// close clears all that is set and lets nothing new in.
func (r *registry) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, t := range r.listTimers() {
		t.Clear()
	}
	for _, w := range r.listWatches() {
		w.remove()
	}
}

func (r *registry) addTimer(t *Timer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return runtime.ErrShutdown
	}
	r.lastID++
	t.id = r.lastID
	r.timers[t.id] = t
	r.rt.Retain()
	return nil
}

// timer returns the pending timer with that ID, nil if there is none.
func (r *registry) timer(id int64) *Timer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.timers[id]
}

func (r *registry) listTimers() []*Timer {
	r.mu.Lock()
	list := make([]*Timer, 0, len(r.timers))
	for _, t := range r.timers {
		list = append(list, t)
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *Timer) int { return cmp.Compare(a.id, b.id) })
	return list
}

func (r *registry) addWatch(w *watch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return runtime.ErrShutdown
	case r.watches[w.fd] != nil:
		return eventloop.ErrRegistered
	}
	r.watches[w.fd] = w
	r.rt.Retain()
	return nil
}

func (r *registry) dropWatch(w *watch) {
	r.mu.Lock()
	delete(r.watches, w.fd)
	r.mu.Unlock()
	r.rt.Release()
}

func (r *registry) watch(fd int) *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watches[fd]
}

func (r *registry) listWatches() []*watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*watch, 0, len(r.watches))
	for _, w := range r.watches {
		list = append(list, w)
	}
	return list
}
