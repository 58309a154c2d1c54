package cluster_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// A chat on one node. With the Broker of cluster/nats in place of Memory, it is one on many.
func Example() {
	err := runtime.Run(func(ctx context.Context) error {
		hub := cluster.New(cluster.Config{Broker: cluster.Memory()})
		if err := hub.Start(ctx); err != nil {
			return err
		}
		defer hub.Close(ctx)
		s := websocket.NewServer(websocket.Config{
			OnOpen: func(ctx context.Context, c *websocket.Conn, r *http.Request) {
				hub.Bind(c, r.URL.Query().Get("user"))
				hub.Join(c, "lobby", nil)
			},
			Options: websocket.Options{
				OnMessage: func(ctx context.Context, c *websocket.Conn, m websocket.Message) {
					hub.Broadcast(ctx, "lobby", m)
				},
			},
		})
		l, err := s.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		runtime.Go(ctx, func(ctx context.Context) { s.Serve(ctx) })
		defer s.Close()

		ann, err := websocket.Dial(
			ctx,
			"ws://"+l.Addr().String()+"/?user=ann",
			websocket.ClientConfig{},
		)
		if err != nil {
			return err
		}
		defer ann.Abort()
		ann.Push([]byte("hello, all"), websocket.Text)
		m, err := ann.Recv(ctx)
		if err != nil {
			return err
		}
		fmt.Println(string(m.Data))
		members, err := hub.Members(ctx, "lobby")
		fmt.Println(members[0].User, err)
		hub.ToUser(
			ctx,
			"ann",
			websocket.Message{Opcode: websocket.Text, Data: []byte("hello, Ann")},
		)
		m, err = ann.Recv(ctx)
		fmt.Println(string(m.Data))
		return err
	})
	if err != nil {
		log.Print(err)
	}
	// Output:
	// hello, all
	// ann <nil>
	// hello, Ann
}

// A client that keeps the position of the last message it has got, and comes back with it.
func ExampleHub_JoinSince() {
	hub := cluster.New(cluster.Config{
		Broker: cluster.MemoryWith(cluster.MemoryHistory{Messages: 1000}),
		Encode: func(p cluster.Publication) websocket.Message {
			data := fmt.Appendf(nil, "%d %s %s", p.At.Offset, p.At.Epoch, p.Message.Data)
			return websocket.Message{Opcode: websocket.Text, Data: data}
		},
	})
	// In a coroutine of the connection, when its client has said where it is:
	rejoin := func(ctx context.Context, c *websocket.Conn, since cluster.Position) error {
		at, err := hub.JoinSince(ctx, c, "lobby", nil, since)
		switch err {
		case nil: // all that it has missed is on its way
		case cluster.ErrUnrecoverable:
			c.Push(
				fmt.Appendf(nil, "load the page anew, from %d %s", at.Offset, at.Epoch),
				websocket.Text,
			)
		default:
			return err
		}
		return nil
	}
	_ = rejoin
}
