// Streams-select is the multi-client server of PHP's stream_select, ported: one coroutine and one
// loop around stream.Select serve all clients. It is a chat: what one says, the others get.
//
//	go run ./examples/streams-select
//
// starts the server, has three clients join, talk and leave, and ends:
//
//	client 1 hears: welcome, you are number 1
//	client 2 hears: welcome, you are number 2
//	client 1 hears: number 2 has come
//	client 3 hears: welcome, you are number 3
//	client 2 hears: number 3 has come
//	client 1 hears: number 3 has come
//	client 2 hears: 1: hello, everybody
//	client 3 hears: 1: hello, everybody
//	client 1 hears: 2: hello, number 1
//	client 3 hears: 2: hello, number 1
//	client 1 hears: 3: good night
//	client 2 hears: 3: good night
//	client 2 hears: number 1 has left
//	client 3 hears: number 1 has left
//	client 3 hears: number 2 has left
//
// The Go program differs from what is usually ported in one place: what a client doesn't read waits
// in a buffer of its own, of limited size, until stream.Select says that the client takes more.
// With a plain fwrite, one client that doesn't read would hold up all the others.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

const (
	maxGuests = 1000     // at a time
	maxLine   = 512      // bytes; a longer one is sent on in pieces
	maxUnsent = 64 << 10 // bytes that wait for a guest, before it is shown the door
)

// guest is a client of the chat.
type guest struct {
	stream *stream.Stream
	unsent []byte
}

// chat is the server.
type chat struct {
	listener *stream.Stream
	guests   map[int]*guest // by their numbers, which begin at 1
	last     int            // number given out
}

// serve serves until the listener is closed.
func (c *chat) serve(ctx context.Context) error {
	defer func() {
		for _, g := range c.guests {
			g.stream.Close()
		}
	}()
	for {
		read, write := make(map[int]*stream.Stream), make(map[int]*stream.Stream)
		if len(c.guests) < maxGuests {
			read[0] = c.listener
		}
		for number, g := range c.guests {
			read[number] = g.stream
			if len(g.unsent) > 0 {
				write[number] = g.stream
			}
		}
		ready, err := stream.Select(ctx, read, write, nil, -1)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, number := range slices.Sorted(maps.Keys(ready.Write)) {
			c.flush(ctx, number)
		}
		for _, number := range slices.Sorted(maps.Keys(ready.Read)) {
			if number == 0 {
				c.welcome(ctx)
			} else {
				c.listen(ctx, number)
			}
		}
	}
}

// welcome accepts a guest.
func (c *chat) welcome(ctx context.Context) {
	s, err := stream.Accept(ctx, c.listener, 0)
	if err != nil {
		return // who knocked has gone again
	}
	s.SetBlocking(false)
	c.last++
	c.guests[c.last] = &guest{stream: s}
	c.say(ctx, c.last, fmt.Sprintf("welcome, you are number %d\n", c.last))
	c.tell(ctx, c.last, fmt.Sprintf("number %d has come\n", c.last))
}

// listen takes a line of a guest, if there is a whole one.
func (c *chat) listen(ctx context.Context, number int) {
	g := c.guests[number]
	if g == nil { // shown the door meanwhile
		return
	}
	switch line, err := g.stream.Gets(ctx, maxLine); {
	case err == nil:
		c.tell(ctx, number, fmt.Sprintf("%d: %s\n", number, strings.TrimSpace(line)))
	case err != stream.ErrWouldBlock:
		c.part(ctx, number)
	}
}

// part sees a guest off.
func (c *chat) part(ctx context.Context, number int) {
	c.guests[number].stream.Close()
	delete(c.guests, number)
	c.tell(ctx, number, fmt.Sprintf("number %d has left\n", number))
}

// tell says something to all but one.
func (c *chat) tell(ctx context.Context, but int, text string) {
	for _, number := range slices.Sorted(maps.Keys(c.guests)) {
		if number != but {
			c.say(ctx, number, text)
		}
	}
}

// say says something to a guest, as soon as it listens.
func (c *chat) say(ctx context.Context, number int, text string) {
	if g := c.guests[number]; g != nil {
		g.unsent = append(g.unsent, text...)
		c.flush(ctx, number)
	}
}

// flush sends a guest what it takes.
func (c *chat) flush(ctx context.Context, number int) {
	g := c.guests[number]
	if g == nil {
		return
	}
	n, err := g.stream.Write(ctx, g.unsent)
	g.unsent = g.unsent[n:]
	if err != nil && err != stream.ErrWouldBlock || len(g.unsent) > maxUnsent {
		c.part(ctx, number)
	}
}

func main() { program.Main("streams-select", program.WithoutFlags("streams-select", run)) }

func run(stdout io.Writer) error {
	var show strings.Builder // printed at the end: standard output may block, which a loop must not
	err := runtime.Run(func(ctx context.Context) error {
		listener, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0")
		if err != nil {
			return err
		}
		c := &chat{listener: listener, guests: make(map[int]*guest)}
		serving := runtime.NewChannel[error](1)
		if _, err := runtime.Go(ctx, func(ctx context.Context) { serving.Push(ctx, c.serve(ctx)) }); err != nil {
			return err
		}
		err = demonstrate(ctx, &show, "tcp://"+listener.GetName(false))
		listener.Close()
		ended, popErr := serving.Pop(ctx)
		return errors.Join(err, ended, popErr)
	})
	fmt.Fprint(stdout, show.String())
	return err
}

// demonstrate has three clients talk, each in its turn.
func demonstrate(ctx context.Context, show io.Writer, url string) error {
	var clients [3]*stream.Stream
	hears := func(who int, times int) error {
		for range times {
			line, err := clients[who].Gets(ctx, maxLine)
			if err != nil {
				return err
			}
			fmt.Fprintf(show, "client %d hears: %s", who+1, line)
		}
		return nil
	}
	for i := range clients {
		s, err := stream.SocketClient(ctx, url)
		if err != nil {
			return err
		}
		defer s.Close()
		clients[i] = s
		for j := range i + 1 {
			if err := hears(i-j, 1); err != nil {
				return err
			}
		}
	}
	for i, text := range []string{"hello, everybody", "hello, number 1", "good night"} {
		// In two parts: the chat waits for the rest of a line without losing the others out of
		// sight.
		for _, part := range []string{text[:4], text[4:] + "\n"} {
			if _, err := clients[i].Write(ctx, []byte(part)); err != nil {
				return err
			}
		}
		for j := range clients {
			if j == i {
				continue
			}
			if err := hears(j, 1); err != nil {
				return err
			}
		}
	}
	for i := range clients[:2] {
		if err := clients[i].Close(); err != nil {
			return err
		}
		for j := i + 1; j < len(clients); j++ {
			if err := hears(j, 1); err != nil {
				return err
			}
		}
	}
	return nil
}
