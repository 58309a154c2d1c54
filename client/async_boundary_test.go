//go:build linux

package client_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/socket"
)

// While the server lets the handshake wait, no verb of an Async does anything, from wherever it is
// called; what Send takes goes out afterwards, encrypted.
func TestNothingPassesTheBoundaryOfAnAsync(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte("in the clear"), 0o600))
	coroutine(t, func(ctx context.Context, t *testing.T) {
		goOn := make(chan struct{})
		address := serve(t, func(s *script) {
			<-goOn
			s.secure(serverTLS())
			s.hear("kept kept kept ")
			s.say("all\r\n")
			s.rest()
		})
		config, r := recording(t, mail())
		r.on("connect", func(a *client.Async) {
			check(t, a.EnableSSL(ctx, func(_ context.Context, a *client.Async, err error) { r.ready(a, err) }))
		})
		a := client.NewAsync(config)
		check(t, a.Connect(ctx, "tcp", address))
		r.until(ctx, "connect")
		verbs := func(ctx context.Context) (sendFile, enableSSL error) {
			_, sendFile = a.SendFile(ctx, file, 0, 0)
			told := make(chan error, 1)
			enableSSL = a.EnableSSL(ctx, func(_ context.Context, _ *client.Async, err error) { told <- err })
			if enableSSL == nil {
				enableSSL, _ = runtime.Await(ctx, func() (error, error) { return <-told, nil })
			}
			check(t, a.Send([]byte("kept ")))
			return sendFile, enableSSL
		}
		expect := func(where string, sendFile, enableSSL error) {
			wantError(t, "SendFile on a "+where, sendFile, socket.ErrBusy)
			wantError(t, "EnableSSL on a "+where, enableSSL, socket.ErrBusy)
		}
		sendFile, enableSSL := verbs(ctx)
		expect("coroutine", sendFile, enableSSL)
		type outcome struct{ sendFile, enableSSL error }
		outcomes := make(chan outcome, 1)
		rt, err := runtime.From(ctx)
		check(t, err)
		go func() {
			sendFile, enableSSL := verbs(rt.Context())
			outcomes <- outcome{sendFile, enableSSL}
		}()
		o := receive(ctx, t, outcomes)
		expect("goroutine", o.sendFile, o.enableSSL)
		check(t, rt.Loops()[0].Post(func() {
			sendFile, enableSSL := verbs(rt.Context())
			outcomes <- outcome{sendFile, enableSSL}
		}))
		o = receive(ctx, t, outcomes)
		expect("loop", o.sendFile, o.enableSSL)
		close(goOn)
		r.until(ctx, `receive "all\r\n"`)
		check(t, a.Close())
		r.until(ctx, "close")
	})
}
