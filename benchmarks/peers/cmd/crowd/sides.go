//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/socket"
)

// Commands of the processes, beside those that every child has.
const (
	stateCommand   = "state"
	packetsCommand = "packets" // followed by their number
	closeCommand   = "close"
)

var compact = socket.CompactTLS{After: time.Second}

// stepTimeout bounds a connect and a handshake: the first come in crowds, and processors are slow.
const stepTimeout = time.Minute

// serve is the server's process: it sends back what comes.
func serve(text []byte, control *child.Control) error {
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	secure, err := identity.ServerConfig(c.Certificate, c.Key)
	if err != nil {
		return err
	}
	var lost losses
	s := server.New(server.Config{Port: server.Port{
		TLS: secure, CompactTLS: compact, HandshakeTimeout: stepTimeout,
		OnReceive: func(ctx context.Context, c *server.Conn, p []byte) { c.Send(ctx, p) },
		OnClose:   func(_ context.Context, _ *server.Conn, reason error) { lost.add(reason) },
	}})
	control.Handle(stateCommand, func(string) (any, error) {
		compacted, _ := socket.Compact()
		return state{s.Stats().Connections, int(compacted), lost.all()}, nil
	})
	return runtime.Run(func(ctx context.Context) error {
		l, err := s.Listen(ctx, "tls", "127.0.0.1:0")
		if err != nil {
			return err
		}
		control.Listening(l.Addr())
		return s.Serve(ctx)
	})
}

// losses are why connections have ended.
type losses struct {
	mu  sync.Mutex
	why map[string]int // guarded by mu
}

func (l *losses) add(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = map[string]int{}
	}
	text := "closed"
	if reason != nil {
		text = innermost(reason).Error() // without addresses
	}
	l.why[text]++
}

func innermost(err error) error {
	for within := errors.Unwrap(err); within != nil; within = errors.Unwrap(err) {
		err = within
	}
	return err
}

func (l *losses) all() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.why)
}

// messageSize is how long a message is, with its number.
const messageSize = 64

// caller is the client's process.
type caller struct {
	rt      *runtime.Runtime
	address string
	dialers []*client.AsyncDialer // of perSource connections each
	config  client.AsyncConfig

	all    []*client.Async
	done   chan error   // an answer is there
	number atomic.Int64 // of the message that is under way; 0: an opening one
	alive  atomic.Int64
	lost   losses
}

// perSource is how many connections leave from an address: fewer than there are ports.
const perSource = 20_000

func call(text []byte, control *child.Control) error {
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.CA))
	w := &caller{address: c.Address, done: make(chan error, atATime)}
	w.config = client.AsyncConfig{
		Config: client.Config{
			TLS:        &tls.Config{RootCAs: roots, ServerName: identity.Server},
			CompactTLS: compact, ConnectTimeout: stepTimeout, HandshakeTimeout: stepTimeout,
		},
		OnConnect: func(_ context.Context, a *client.Async) {
			w.alive.Add(1)
			if err := a.Send(make([]byte, messageSize)); err != nil {
				w.done <- err
			}
		},
		OnReceive: func(_ context.Context, _ *client.Async, p []byte) { w.done <- w.check(p) },
		OnError:   func(_ context.Context, _ *client.Async, err error) { w.done <- err },
		OnClose: func(_ context.Context, _ *client.Async, reason error) {
			w.alive.Add(-1)
			w.lost.add(reason)
		},
	}
	var err error
	if w.rt, err = runtime.New(); err == nil {
		err = w.rt.Start()
	}
	if err != nil {
		return err
	}
	control.HandleOpen(w.open)
	control.Handle(stateCommand, func(string) (any, error) {
		compacted, _ := socket.Compact()
		return state{int(w.alive.Load()), int(compacted), w.lost.all()}, nil
	})
	control.Handle(packetsCommand, w.packets)
	control.Handle(closeCommand, func(string) (any, error) { return nil, w.close() })
	control.Ready("")
	select {}
}

// open opens n connections, and has a message come back on each.
func (w *caller) open(n int) error {
	for range n {
		at := len(w.all) / perSource
		if at == len(w.dialers) {
			config := w.config
			config.LocalAddress = net.JoinHostPort(fmt.Sprintf("127.0.1.%d", at+1), "0")
			dialer, err := client.NewAsyncDialer(config)
			if err != nil {
				return err
			}
			w.dialers = append(w.dialers, dialer)
		}
		a, err := w.dialers[at].Dial(w.rt.Context(), "tls", w.address)
		if err != nil {
			return err
		}
		w.all = append(w.all, a)
	}
	for range n {
		if err := <-w.done; err != nil {
			return err
		}
	}
	return nil
}

// packets has packets come back, one after the other, each on a random connection.
func (w *caller) packets(arguments string) (any, error) {
	n, err := strconv.Atoi(arguments)
	if err != nil {
		return nil, err
	}
	p := make([]byte, messageSize)
	for i := range n {
		w.number.Store(int64(i + 1))
		binary.BigEndian.PutUint64(p, uint64(i+1))
		if err := w.all[rand.IntN(len(w.all))].Send(p); err != nil {
			return nil, err
		}
		select {
		case err := <-w.done:
			if err != nil {
				return nil, err
			}
		case <-time.After(stepTimeout):
			return nil, fmt.Errorf("packet %d was lost", i+1)
		}
	}
	return nil, nil
}

func (w *caller) check(p []byte) error {
	number := uint64(w.number.Load())
	if len(p) != messageSize || binary.BigEndian.Uint64(p) != number {
		return fmt.Errorf("%d bytes came back that aren't packet %d", len(p), number)
	}
	return nil
}

func (w *caller) close() error {
	var errs []error
	for _, a := range w.all {
		if err := a.Close(); err != nil {
			errs = append(errs, err)
		}
	}
	for deadline := time.Now().Add(patience); w.alive.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d connections don't end", w.alive.Load())
		}
	}
	return errors.Join(errs...)
}
