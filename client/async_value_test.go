//go:build linux

package client_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
)

// A value is one of a connection: OnClose still finds it, the next connection doesn't. Nor is what
// was set in plaintext there after EnableSSL. What was set before Connect, in onReady and in
// OnClose is.
func TestAsyncValueLivesAsLongAsWhatItSays(t *testing.T) {
	both(t, func(ctx context.Context, t *testing.T) {
		var connections atomic.Int32
		address := serve(t, func(s *script) {
			if connections.Add(1) > 1 {
				s.say("220 again\r\n")
				s.rest()
				return
			}
			s.starttls()
			s.secure(serverTLS())
			s.say("220 over TLS\r\n")
		})
		var mu sync.Mutex
		var seen []string
		var done runtime.WaitGroup
		done.Add(1)
		note := func(where string, a *client.Async) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(where, " ", a.Value()))
		}
		closes := 0
		config := client.AsyncConfig{Config: mail(), Reconnect: client.Backoff{First: time.Millisecond},
			OnConnect: func(_ context.Context, a *client.Async) { note("connect", a) },
			OnReceive: func(ctx context.Context, a *client.Async, pkt []byte) {
				switch string(pkt) {
				case "220 mail.test ESMTP\r\n":
					a.SetValue("plaintext")
					check(t, a.Send([]byte("STARTTLS\r\n")))
				case "220 go ahead\r\n":
					check(t, a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) {
						check(t, err)
						note("ready", a)
						a.SetValue("TLS")
					}))
				case "220 over TLS\r\n":
					note("over TLS", a)
				default:
					a.SetValue("second")
					check(t, a.Close())
				}
			},
			OnClose: func(_ context.Context, a *client.Async, _ error) {
				note("close", a)
				if closes++; closes == 2 {
					a.SetValue("kept")
					done.Done()
				}
			},
		}
		a := client.NewAsync(config)
		a.SetValue("before")
		check(t, a.Connect(ctx, "tcp", address))
		check(t, done.Wait(ctx))
		mu.Lock()
		defer mu.Unlock()
		got := fmt.Sprint(seen)
		if want := "[connect before ready <nil> over TLS TLS close TLS connect <nil> close second]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
