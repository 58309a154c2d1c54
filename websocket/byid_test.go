package websocket_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// Whoever pushes by ID from a plain goroutine may do so while that connection is just being made.
func TestPushByIDWhileConnectionsCome(t *testing.T) {
	h := start(t, "tcp", echoing())
	over := make(chan struct{})
	var pushing sync.WaitGroup
	pushing.Go(func() {
		for {
			for id := server.ID(1); id < 40; id++ {
				_, err := h.s.Push(id, []byte("x"), websocket.Text)
				if err != nil && !errors.Is(err, websocket.ErrNotEstablished) &&
					!errors.Is(err, server.ErrNoConnection) {
					t.Errorf("Push: %v", err)
				}
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for range 20 {
		r := h.connect()
		r.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		r.response()
	}
	close(over)
	pushing.Wait()
}
