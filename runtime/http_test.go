package runtime_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/runtime"
)

// net/http dials on goroutines of its own, with contexts that derive from the request's. What a
// dial function does with such a context must work there, although it comes from a coroutine.
func TestDialFunctionOfHTTPTransportUsesTheRuntime(t *testing.T) {
	guard(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	dials := make(chan string, 10)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := runtime.Sleep(ctx, time.Millisecond); err != nil {
			return nil, err
		}
		conn, err := runtime.Await(ctx, func() (net.Conn, error) { return net.Dial(network, address) })
		if runtime.Current(ctx) != nil {
			dials <- "in a coroutine"
		} else {
			dials <- "on a goroutine"
		}
		return conn, err
	}}
	get := func(ctx context.Context) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			return "", err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		transport.CloseIdleConnections() // so that the next one dials again
		return string(body), err
	}
	err := runtime.Run(func(ctx context.Context) error {
		derived, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for _, with := range []context.Context{ctx, derived} {
			body, err := runtime.Await(ctx, func() (string, error) { return get(with) })
			if body != "hello" || err != nil {
				t.Errorf("from a coroutine through Await: %q, %v", body, err)
			}
			result := make(chan string, 1)
			go func() {
				body, err := get(with)
				if err != nil {
					body = err.Error()
				}
				result <- body
			}()
			body, err = runtime.Await(ctx, func() (string, error) { return <-result, nil })
			if body != "hello" || err != nil {
				t.Errorf("from a plain goroutine: %q, %v", body, err)
			}
		}
		return nil
	}, silent(nil)...)
	if err != nil {
		t.Error(err)
	}
	if n := len(dials); n != 4 {
		t.Errorf("%d of 4 requests were dialled for", n)
	}
	for len(dials) > 0 {
		if where := <-dials; where != "on a goroutine" {
			t.Errorf("net/http dialled %s: this test shows nothing", where)
		}
	}
	server.Close()
	goleak.VerifyNone(t)
}

func TestRequestEndsWithItsCoroutinesContext(t *testing.T) {
	guard(t)
	arrived, gone := make(chan bool, 1), make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		gone <- true
	}))
	transport := new(http.Transport)
	rt := startRuntime(t)
	result := make(chan error, 1)
	co, _ := rt.Go(func(ctx context.Context) {
		_, err := runtime.Await(ctx, func() (int, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				return 0, err
			}
			_, err = transport.RoundTrip(request)
			return 0, err
		})
		result <- err
	})
	receive(t, arrived, "request")
	co.Cancel()
	wantError(t, "Await", receive(t, result, "end of Await"), context.Canceled)
	receive(t, gone, "end of the request")
	transport.CloseIdleConnections()
	server.Close()
}
