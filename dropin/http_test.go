//go:build linux

package dropin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// A site is net/http's server over hooks.Listen.
type site struct {
	http.Server
	addr    string
	waiting chan struct{} // gets one for each request that has come to /wait
	left    chan error    // gets why each of these has ended
}

// serve starts a site. Over TLS it offers HTTP/2.
func serve(ctx context.Context, t testing.TB, secure bool) (s *site, stop func()) {
	t.Helper()
	l := listen(ctx, t)
	s = &site{addr: l.Addr().String(), waiting: make(chan struct{}, 16), left: make(chan error, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/wait", s.wait)
	mux.HandleFunc("/half", s.half)
	s.Handler = mux
	s.ErrorLog = log.New(io.Discard, "", 0) // what clients that go do to it
	_, s.TLSConfig = configs()
	ended := make(chan error, 1)
	go func() {
		if secure {
			ended <- s.ServeTLS(l, "", "")
		} else {
			ended <- s.Serve(l)
		}
	}()
	return s, func() {
		check(t, await(ctx, s.Close)) // waits in a sync.WaitGroup
		wantError(t, "Serve", await(ctx, func() error { return <-ended }), http.ErrServerClosed)
	}
}

// echo says over which protocol a request came, and sends its body back while it still comes.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Proto", r.Proto)
	http.NewResponseController(w).EnableFullDuplex()
	io.Copy(w, r.Body)
}

// wait answers never: it waits until the client goes, which net/http sees when the body has been
// read.
func (s *site) wait(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	s.waiting <- struct{}{}
	<-r.Context().Done()
	s.left <- r.Context().Err()
}

// half sends half of what it announces, and waits until the client goes.
func (s *site) half(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "200000")
	w.Write(make([]byte, 100_000))
	http.NewResponseController(w).Flush()
	s.wait(w, r)
}

// A browser is net/http's client over the Dialer.
type browser struct {
	http.Client
	base string
}

func newBrowser(t testing.TB, addr string, secure bool) *browser {
	config, _ := configs()
	transport := &http.Transport{DialContext: new(hooks.Dialer).DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	b := &browser{Client: http.Client{Transport: transport}, base: "http://" + addr}
	if secure {
		b.base = "https://" + addr
	}
	return b
}

// An answer is what came of a request.
type answer struct {
	proto string
	body  []byte
}

// post makes a request. A coroutine waits for it by Await, as net/http waits for its own goroutines
// on Go channels. The whole request is made there: if ctx is done first, Await returns without its
// result, and nobody else would close the body.
func (b *browser) post(ctx context.Context, path string, body []byte) (answer, error) {
	return runtime.Await(ctx, func() (answer, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+path, bytes.NewReader(body))
		if err != nil {
			return answer{}, err
		}
		response, err := b.Do(request)
		if err != nil {
			return answer{}, err
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		return answer{response.Header.Get("Proto"), got}, err
	})
}

// eachHTTP runs a test over HTTP/1.1 and over HTTP/2 with TLS.
func eachHTTP(t *testing.T, test func(ctx context.Context, t *testing.T, proto string, secure bool)) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(ctx, t, proto, proto == "HTTP/2.0") })
		})
	}
}

func TestHTTPRequests(t *testing.T) {
	eachHTTP(t, func(ctx context.Context, t *testing.T, proto string, secure bool) {
		s, stop := serve(ctx, t, secure)
		defer stop()
		b := newBrowser(t, s.addr, secure)
		check(t, many(ctx, 8, func(ctx context.Context, i int) error {
			for n := range 10 {
				body := bytes.Repeat([]byte{byte(i)}, n*n*4_000)
				got, err := b.post(ctx, "/echo", body)
				if err != nil || got.proto != proto || !bytes.Equal(got.body, body) {
					return fmt.Errorf("%d bytes over %q, %w; want %d over %q", len(got.body), got.proto, err, len(body), proto)
				}
			}
			return nil
		}))
	})
}

// Cancelling a request, and its deadline, end it on both sides.
func TestHTTPRequestEndsWithItsContext(t *testing.T) {
	eachHTTP(t, func(ctx context.Context, t *testing.T, _ string, secure bool) {
		s, stop := serve(ctx, t, secure)
		defer stop()
		b := newBrowser(t, s.addr, secure)
		for _, path := range []string{"/wait", "/half"} {
			cancelled, cancel := context.WithCancel(ctx)
			over := beside(ctx, t, func(context.Context) error {
				_, err := b.post(cancelled, path, nil)
				return err
			})
			check(t, await(ctx, func() error { <-s.waiting; return nil }))
			cancel()
			wantError(t, path+" cancelled", over(), context.Canceled)
			wantError(t, path+" seen by the server", await(ctx, func() error { return <-s.left }), context.Canceled)

			late, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_, err := b.post(late, path, nil)
			cancel()
			wantError(t, path+" late", err, context.DeadlineExceeded)
		}
		if got, err := b.post(ctx, "/echo", []byte("still there")); err != nil || string(got.body) != "still there" {
			t.Errorf("afterwards: %q, %v", got.body, err)
		}
	})
}

// A connection that is cut in the middle of an answer is an error of that request, not of the next
// one.
func TestHTTPConnectionCut(t *testing.T) {
	eachHTTP(t, func(ctx context.Context, t *testing.T, _ string, secure bool) {
		s, stop := serve(ctx, t, secure)
		defer stop()
		p := proxy(t, s.addr)
		b := newBrowser(t, p.Addr(), secure)
		for _, path := range []string{"/wait", "/half"} {
			over := beside(ctx, t, func(ctx context.Context) error {
				_, err := b.post(ctx, path, []byte("a body, so that it isn't tried again"))
				return err
			})
			check(t, await(ctx, func() error { <-s.waiting; return nil }))
			p.CutAll()
			err := over()
			if err == nil || ctx.Err() != nil {
				t.Errorf("%s was cut: error is %v", path, err)
			}
			wantError(t, path+" seen by the server", await(ctx, func() error { return <-s.left }), context.Canceled)
			if got, err := b.post(ctx, "/echo", []byte("again")); err != nil || string(got.body) != "again" {
				t.Errorf("after %s: %q, %v", path, got.body, err)
			}
		}
	})
}

// Shutdown lets the request that is under way end, and Serve returns in the coroutine that it was
// called in.
func TestHTTPServerInACoroutineShutsDown(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l := listen(ctx, t)
		begun, release := make(chan struct{}), make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			<-release
			io.WriteString(w, "done")
		})}
		served := beside(ctx, t, func(context.Context) error { return server.Serve(l) })
		b := newBrowser(t, l.Addr().String(), false)
		var got answer
		over := beside(ctx, t, func(ctx context.Context) (err error) {
			got, err = b.post(ctx, "/", nil)
			return err
		})
		check(t, await(ctx, func() error { <-begun; return nil }))
		down := beside(ctx, t, func(ctx context.Context) error {
			return await(ctx, func() error { return server.Shutdown(ctx) })
		})
		wantError(t, "Serve", served(), http.ErrServerClosed)
		close(release)
		check(t, over())
		check(t, down())
		wantText(t, "answer", string(got.body), "done")
	})
}

// The read time-out of the server is a deadline of the hooked connection.
func TestHTTPServerTimesOut(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l := listen(ctx, t)
		server := &http.Server{Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 20 * time.Millisecond}
		served := beside(ctx, t, func(context.Context) error { return server.Serve(l) })
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: slo")
		check(t, err)
		_, err = io.Copy(io.Discard, conn)
		check(t, err) // the server has closed it
		check(t, await(ctx, server.Close))
		wantError(t, "Serve", served(), http.ErrServerClosed)
	})
}

// With nobody to listen, with a peer that says nothing, and with a certificate that nobody trusts,
// the client says so.
func TestHTTPFailures(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l := listen(ctx, t)
		addr := l.Addr().String()
		check(t, l.Close())
		b := newBrowser(t, addr, false)
		_, err := b.post(ctx, "/", nil)
		wantText(t, "nobody listens", fmt.Sprint(err), "connection refused")

		s, stop := serve(ctx, t, true)
		defer stop()
		b = newBrowser(t, s.addr, true)
		b.Transport.(*http.Transport).TLSClientConfig.RootCAs = nil
		_, err = b.post(ctx, "/", nil)
		wantText(t, "unknown authority", fmt.Sprint(err), "unknown authority")

		silent := proxy(t, s.addr)
		silent.Silence(true)
		b = newBrowser(t, silent.Addr(), true)
		b.Timeout = 50 * time.Millisecond
		_, err = b.post(ctx, "/", nil)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("silent peer: error is %v", err)
		}
	})
}
