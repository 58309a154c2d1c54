package hooks

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// enabled is what Enable has put aside.
var enabled struct {
	mu        sync.Mutex
	times     int // Enable without Disable
	transport *http.Transport
	dialHTTP  func(ctx context.Context, network, address string) (net.Conn, error)
	resolver  *net.Resolver
	preferGo  bool
	dialDNS   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Enable has http.DefaultTransport, and so http.Get and http.DefaultClient, and net.DefaultResolver
// make their connections with the zero Dialer; the resolver is Go's own then (PreferGo). It returns
// an error, and changes nothing, if http.DefaultTransport is not an *http.Transport.
//
// Calls are counted: a second Enable changes nothing, and the Disable that belongs to the first one
// undoes it. Both may be called by many at once, but not while the transport or the resolver is in
// use, since these read what is changed here without a lock: call Enable when the program starts.
//
// Connections live on the runtime that Dialer says. A coroutine must not call http.Get itself,
// which waits on Go channels, but through runtime.Await. The request's context brings the runtime
// along.
func Enable() error {
	e := &enabled
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.times > 0 {
		e.times++
		return nil
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return fmt.Errorf(
			"hooks: http.DefaultTransport is a %T; set the DialContext of the *http.Transport behind it",
			http.DefaultTransport,
		)
	}
	dialer := new(Dialer)
	e.times = 1
	e.transport, e.dialHTTP = transport, transport.DialContext
	transport.DialContext = dialer.DialContext
	e.resolver, e.preferGo, e.dialDNS = net.DefaultResolver, net.DefaultResolver.PreferGo, net.DefaultResolver.Dial
	net.DefaultResolver.PreferGo, net.DefaultResolver.Dial = true, dialer.DialContext
	return nil
}

// Disable undoes Enable, if as many calls of it have come as of Enable; without one it does
// nothing. The transport and the resolver that Enable has changed get back what they had then,
// whatever was set meanwhile, and the transport's idle connections are closed.
func Disable() {
	e := &enabled
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.times == 0 {
		return
	}
	if e.times--; e.times > 0 {
		return
	}
	e.transport.DialContext = e.dialHTTP
	e.transport.CloseIdleConnections()
	e.resolver.PreferGo, e.resolver.Dial = e.preferGo, e.dialDNS
	e.transport, e.dialHTTP, e.resolver, e.dialDNS = nil, nil, nil, nil
}
