package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// A server is net/http's, over listeners of package hooks: its goroutines are parked while they
// wait for their connections, which are on Whorl's loops.
type server struct {
	http          http.Server
	plain, secure net.Listener // secure: nil if there is none
	sockets       *websocket.Rooms
	ended         chan struct{} // closed by end
	end           func()        // says that Shutdown has done its work
}

func newServer(secure *tls.Config) *server {
	s := &server{sockets: websocket.NewRooms(), ended: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	s.http = http.Server{
		Handler:           s.handlers(),
		TLSConfig:         secure,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)            // over TLS, by ALPN
	s.http.Protocols.SetUnencryptedHTTP2(true) // by prior knowledge
	return s
}

// Listen listens for HTTP without TLS.
func (s *server) Listen(co context.Context, network, address string) (l net.Listener, err error) {
	s.plain, err = hooks.Listen(co, network, address)
	return s.plain, err
}

// listenTLS listens for HTTP with TLS.
func (s *server) listenTLS(co context.Context, address string) (err error) {
	s.secure, err = hooks.Listen(co, "tcp", address)
	return err
}

// Serve serves until Shutdown has ended. net/http waits on Go channels, which must not be done on a
// loop: so Await has a goroutine do it.
func (s *server) Serve(co context.Context) error {
	rt, err := runtime.From(co)
	if err != nil {
		return err
	}
	// So that handlers can start coroutines, which are spread over the loops.
	s.http.BaseContext = func(net.Listener) context.Context { return rt.Context() }
	_, err = runtime.Await(co, func() (none struct{}, err error) {
		ends := make(chan error, 2)
		go func() { ends <- s.http.Serve(s.plain) }()
		if s.secure != nil {
			go func() { ends <- s.http.ServeTLS(s.secure, "", "") }()
		}
		if err := <-ends; !errors.Is(err, http.ErrServerClosed) {
			s.http.Close()
			return none, err
		}
		<-s.ended
		return none, nil
	})
	return err
}

// Shutdown finishes the requests that are being served. net/http knows nothing of connections that
// are WebSockets by now: these are told to go.
func (s *server) Shutdown(co context.Context) error {
	defer s.end()
	for _, c := range s.sockets.Members("all") {
		c.Close(websocket.StatusGoingAway, "")
	}
	_, err := runtime.Await(co, func() (none struct{}, err error) {
		return none, s.http.Shutdown(co)
	})
	if err != nil {
		s.http.Close()
	}
	return err
}
