//go:build linux

package hooks_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// answer says what a request was.
func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s %s %d ", r.Proto, r.Method, r.URL.Path, len(body))
	w.Write(bytes.Repeat([]byte("x"), len(body)))
}

// serve runs net/http's server over hooks.Listen, unchanged, and returns where it is.
func serve(ctx context.Context, t testing.TB, secure bool) (base string, stop func()) {
	t.Helper()
	l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	_, config := configs()
	server := &http.Server{Handler: http.HandlerFunc(answer), TLSConfig: config}
	ended := make(chan error, 1)
	go func() {
		if secure {
			ended <- server.ServeTLS(l, "", "")
		} else {
			ended <- server.Serve(l)
		}
	}()
	stop = func() {
		check(t, closeServer(ctx, server))
		_, err := runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, <-ended })
		wantError(t, "Serve", err, http.ErrServerClosed)
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, l.Addr()), stop
}

// closeServer closes a server, which waits in a sync.WaitGroup for Serve to return.
func closeServer(ctx context.Context, server io.Closer) error {
	_, err := runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, server.Close() })
	return err
}

// httpClient returns net/http's client over the Dialer.
func httpClient(t testing.TB) *http.Client {
	config, _ := configs()
	transport := &http.Transport{DialContext: new(hooks.Dialer).DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post makes a request. A coroutine has to wait for it by Await, as net/http waits on Go channels.
func post(ctx context.Context, client *http.Client, url string, size int) (string, error) {
	return runtime.Await(ctx, func() (string, error) {
		request, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			return "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	})
}

func TestNetHTTP(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) {
				const callers, requests = 8, 20
				base, stop := serve(ctx, t, version == "HTTP/2.0")
				defer stop()
				client := httpClient(t)
				_, err := runtime.Map(ctx, make([]int, callers), func(ctx context.Context, _ int) (struct{}, error) {
					for i := range requests {
						size := i * 5_000
						got, err := post(ctx, client, base+"/a/path", size)
						want := fmt.Sprintf("%s POST /a/path %d %s", version, size, strings.Repeat("x", size))
						if err != nil || got != want {
							return struct{}{}, fmt.Errorf("got %.100q (%d bytes), %w; want %.100q", got, len(got), err, want)
						}
					}
					return struct{}{}, nil
				})
				check(t, err)
			})
		})
	}
}

// The server itself in a coroutine: Serve is an endless loop of Accept, which yields to the loop,
// and of Go's own goroutines.
func TestNetHTTPServerInACoroutine(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		server := &http.Server{Handler: http.HandlerFunc(answer)}
		served := beside(ctx, t, func(context.Context) error { return server.Serve(l) })
		got, err := post(ctx, httpClient(t), "http://"+l.Addr().String()+"/", 3)
		if err != nil || got != "HTTP/1.1 POST / 3 xxx" {
			t.Errorf("got %q, %v", got, err)
		}
		check(t, closeServer(ctx, server))
		wantError(t, "Serve", served(), http.ErrServerClosed)
	})
}

// A connection that a coroutine uses by itself, for HTTP by hand.
func TestRequestWithoutAwait(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		base, stop := serve(ctx, t, true)
		defer stop()
		config, _ := configs()
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(base, "https://"))
		check(t, err)
		config.ServerName = "localhost"
		secure := tls.Client(conn, config)
		defer secure.Close()
		request, err := http.NewRequest("GET", base+"/by-hand", nil)
		check(t, err)
		request.Close = true
		check(t, request.Write(secure))
		got, err := io.ReadAll(secure)
		check(t, err)
		if !bytes.Contains(got, []byte("HTTP/1.1 GET /by-hand 0")) {
			t.Errorf("got %q", got)
		}
	})
}

// Cancelling a request ends its dial, and whatever it waits for.
func TestRequestCancelled(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		accepted := beside(ctx, t, func(ctx context.Context) error {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = io.Copy(io.Discard, conn) // says nothing until the client goes
			return err
		})
		ctx, cancel := context.WithCancel(ctx)
		client := httpClient(t)
		wait := beside(context.WithoutCancel(ctx), t, func(context.Context) error {
			_, err := post(ctx, client, "http://"+l.Addr().String(), 0)
			return err
		})
		cancel()
		l.(*hooks.Listener).SetDeadline(pastTime) // if the dial was cancelled, nobody comes
		wantError(t, "request", wait(), context.Canceled)
		client.CloseIdleConnections() // a dial that was faster than its cancelling is kept for the next request
		if err := accepted(); err != nil {
			var opErr *net.OpError
			if !errors.As(err, &opErr) {
				t.Error(err)
			}
		}
	})
}
