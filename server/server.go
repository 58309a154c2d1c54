package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/whorl-go/whorl/internal/sched"
	"github.com/whorl-go/whorl/internal/unix"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/tlsconfig"
)

// Server accepts connections on any number of listeners and serves them. Make it with [New]. Its
// methods may be called from any coroutine and any goroutine; those that have to do with one
// connection work from callbacks of other connections, too.
type Server struct {
	config Config
	log    *zap.Logger
	began  time.Time

	mu        sync.Mutex
	rt        *sched.Runtime // guarded by mu: set by the first Listen
	workers   []*worker      // set with rt, one for each loop
	listeners []*Listener    // guarded by mu
	serving   bool           // guarded by mu
	running   int            // guarded by mu: coroutines of listeners
	ended     bool           // guarded by mu
	failed    error          // guarded by mu: why a listener has stopped

	watched  map[*tlsconfig.Server]bool // guarded by mu: whose files are watched
	watching context.Context            // ends with Serve
	unwatch  context.CancelFunc

	draining atomic.Bool // Shutdown or Close was called
	// Accepted and not gone: what their handlers do, and they deliver, included.
	connections atomic.Int64
	over        *runtime.Channel[struct{}]
	addresses   addressBook
	cuts        struct { // deliveries that were cut
		connections, bytes atomic.Uint64
		complain           atomic.Int64 // when another may be logged, since began
	}
	outcomes  outcomes
	refused   atomic.Uint64
	backlog   atomic.Int64
	datagrams atomic.Uint64
	complain  atomic.Int64 // when a shortage of descriptors may be logged again, since began
}

// New makes a Server. What is wrong with the configuration is returned by Listen.
func New(config Config) *Server {
	s := &Server{
		config:  config,
		began:   time.Now(),
		over:    runtime.NewChannel[struct{}](1),
		watched: map[*tlsconfig.Server]bool{},
	}
	s.watching, s.unwatch = context.WithCancel(context.Background())
	return s
}

// join binds the server to the runtime that ctx carries.
func (s *Server) join(ctx context.Context) (*sched.Runtime, error) {
	rt, err := sched.From(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining.Load():
		return nil, ErrShutdown
	case s.rt == rt:
		return rt, nil
	case s.rt != nil:
		return nil, errors.New("server: belongs to another runtime")
	}
	limit, err := connectionLimit(s.config.MaxConnections)
	if err != nil {
		return nil, err
	}
	s.config.MaxConnections = limit
	if s.config.MaxLingering <= 0 {
		s.config.MaxLingering = min(DefaultMaxLingering, max(1, limit/4))
	}
	if s.config.MaxLingeringBytes <= 0 {
		s.config.MaxLingeringBytes = DefaultMaxLingeringBytes
	}
	switch bits := s.config.AddressPrefix; {
	case bits == 0:
		s.config.AddressPrefix = DefaultAddressPrefix
	case bits < 0 || bits > 128:
		return nil, fmt.Errorf("server: AddressPrefix is %d, must be from 1 to 128", bits)
	}
	if s.config.MaxHandshakes <= 0 {
		s.config.MaxHandshakes = DefaultMaxHandshakes
	}
	if s.log = s.config.Logger; s.log == nil {
		s.log = rt.Logger()
	}
	loops := rt.Loops()
	for i, loop := range loops {
		s.workers = append(s.workers, newWorker(s, rt, loop, i, len(loops)))
	}
	s.rt = rt
	return rt, nil
}

// connectionLimit is MaxConnections, or what the process's limit of descriptors leaves.
func connectionLimit(limit int) (int, error) {
	if limit > 0 {
		return limit, nil
	}
	descriptors, _, err := unix.DescriptorLimit()
	if err != nil {
		return 0, fmt.Errorf("server: limit of descriptors: %w", err)
	}
	const others = 64
	return int(max(1, min(descriptors, 1<<30)-others)), nil
}

// Serve accepts connections on the listeners, those that are added later included, and returns when
// Shutdown or Close has ended the server and everything that was sent is delivered or given up, see
// Port.Linger: nil, or why a listener has stopped working. When ctx is done, Serve does what Close
// does, and returns the cause. A server serves once.
func (s *Server) Serve(ctx context.Context) error {
	rt, err := s.join(ctx)
	if err != nil {
		return err
	}
	listeners, err := s.beginServing()
	if err != nil {
		return err
	}
	defer s.unwatch()
	// When the runtime shuts down the connections are closed, while there are loops to do that.
	rt.Retain()
	var interrupted atomic.Bool
	unless := context.AfterFunc(rt.Context(), func() {
		defer rt.Release()
		interrupted.Store(!s.draining.Load())
		s.Close()
	})
	defer func() {
		if unless() {
			rt.Release()
		}
	}()
	for _, l := range listeners {
		l.start()
	}
	if _, err := s.over.Pop(ctx); ctx.Err() != nil || errors.Is(err, runtime.ErrShutdown) {
		s.Close()
		s.over.Pop(context.WithoutCancel(ctx))
		if rt.Context().Err() == nil {
			return context.Cause(ctx)
		}
		return runtime.ErrShutdown
	} else if interrupted.Load() {
		return runtime.ErrShutdown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// beginServing returns the listeners to start. Their coroutines are counted before they run, so
// that a Shutdown waits for them.
func (s *Server) beginServing() ([]*Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.serving:
		return nil, errors.New("server: Serve was called before")
	case s.draining.Load():
		return nil, ErrShutdown
	}
	s.serving = true
	for _, l := range s.listeners {
		s.running += len(l.sockets)
	}
	return slices.Clone(s.listeners), nil
}

// Shutdown ends the server in order. It accepts what is in the backlog and stops listening.
// Connections that wait for a packet are told at once, those at work afterwards: Recv returns
// ErrShutdown to a handler between two packets, and a callback connection is closed when it has
// nothing more to read and nothing queued. What has arrived by then is still served, what was sent
// is delivered, and Shutdown waits for that. A client that has been accepted less than five seconds
// before has until then to send its first packet, as with net/http.
//
// When ctx is done the rest is aborted, and Shutdown returns the cause. If connections were cut
// off, then or before, because their clients took nothing, it returns a *CutError that says how
// many.
func (s *Server) Shutdown(ctx context.Context) error {
	connections, bytes := s.cuts.connections.Load(), s.cuts.bytes.Load()
	s.drain()
	_, err := s.over.Pop(ctx)
	switch {
	case s.isOver():
		err = nil // in order, whatever has become of ctx meanwhile
	case ctx.Err() != nil:
		s.abort()
		err = context.Cause(ctx)
	case !errors.Is(err, runtime.ErrShutdown) && !errors.Is(err, runtime.ErrOnLoop):
		err = nil
	}
	if n := s.cuts.connections.Load() - connections; n > 0 {
		return &CutError{Connections: int(n), Bytes: int(s.cuts.bytes.Load() - bytes), Err: err}
	}
	return err
}

// Close ends the server at once: all connections are closed, OnClose is told ErrShutdown, and what
// was sent is delivered in the background. Handlers that still run find their connection closed.
// Close doesn't wait for anything.
func (s *Server) Close() error {
	s.drain()
	s.onWorkers(func(w *worker) { w.endAll(w.wheel.all(), false) })
	return nil
}

// abort cuts all connections off, and waits until that is done, unless a loop is held.
func (s *Server) abort() {
	s.mu.Lock()
	workers := s.workers
	s.mu.Unlock()
	aborted := runtime.NewChannel[struct{}](len(workers))
	asked := 0
	for _, w := range workers {
		if w.do(func() {
			w.abort()
			aborted.Push(context.Background(), struct{}{}) // it has room
		}) {
			asked++
		}
	}
	for range asked {
		if _, err := aborted.PopTimeout(context.Background(), time.Second); err != nil {
			return
		}
	}
}

// drain begins the end.
func (s *Server) drain() {
	s.mu.Lock()
	first := !s.draining.Swap(true)
	listeners := slices.Clone(s.listeners)
	s.mu.Unlock()
	if !first {
		return
	}
	for _, l := range listeners {
		l.stop()
	}
	s.onWorkers((*worker).drain)
	s.checkOver()
}

// onWorkers has fn run on each loop.
func (s *Server) onWorkers(fn func(w *worker)) {
	s.mu.Lock()
	workers := s.workers
	s.mu.Unlock()
	for _, w := range workers {
		w.do(func() { fn(w) })
	}
}

// isOver reports whether nothing is left.
func (s *Server) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// checkOver ends Serve and Shutdown when nothing is left.
func (s *Server) checkOver() {
	s.mu.Lock()
	over := s.draining.Load() && s.running == 0 && s.connections.Load() == 0 && !s.ended
	if over {
		s.ended = true
	}
	s.mu.Unlock()
	if over {
		s.over.Close()
	}
}

// watch watches the files of a listener's certificates, on a goroutine for each that ends with
// Serve.
func (s *Server) watch(certificates *tlsconfig.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if certificates == nil || s.watched[certificates] {
		return
	}
	s.watched[certificates] = true
	options := tlsconfig.WatchOptions{Logger: s.log}
	hangup := make(chan os.Signal, 1)
	if s.config.ReloadOnHangup {
		signal.Notify(hangup, syscall.SIGHUP)
		options.Signals = hangup
	}
	go func() {
		defer signal.Stop(hangup)
		certificates.Watch(s.watching, options)
	}()
}

// Reload reloads the files of all listeners' certificates at once, as ReloadOnHangup does. What is
// wrong with new files is returned, and those that were in use stay so. It reads files, so call it
// off the event loops, or in runtime.Await.
func (s *Server) Reload() error {
	s.mu.Lock()
	listeners := slices.Clone(s.listeners)
	s.mu.Unlock()
	var err error
	for _, l := range listeners {
		if l.port.Certificates != nil {
			_, reloadErr := l.port.Certificates.Reload()
			err = errors.Join(err, reloadErr)
		}
	}
	return err
}

// How many connections beyond MaxConnections there may be at a time that are told so.
const mostRefused = 64

// admit counts a new connection in, or refuses it. One that is refused may yet be told why.
func (s *Server) admit() (admitted, told bool) {
	over := s.connections.Add(1) - int64(s.config.MaxConnections)
	if over <= 0 {
		return true, true
	}
	s.refused.Add(1)
	if over > mostRefused {
		s.connections.Add(-1)
		return false, false
	}
	return false, true
}

// leave counts a connection out.
func (s *Server) leave() {
	if s.connections.Add(-1) == 0 && s.draining.Load() {
		s.checkOver()
	}
}

// addressBook counts the connections of each address.
type addressBook struct {
	mu     sync.Mutex
	counts map[netip.Prefix]int
}

func (b *addressBook) enter(a netip.Prefix, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.counts[a] >= limit {
		return false
	}
	if b.counts == nil {
		b.counts = make(map[netip.Prefix]int)
	}
	b.counts[a]++
	return true
}

func (b *addressBook) leave(a netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.counts[a]--; b.counts[a] <= 0 {
		delete(b.counts, a)
	}
}

// Addrs returns the addresses of the listeners, in the order in which they were made: with port 0,
// this tells which port each got.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}
