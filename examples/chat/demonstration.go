package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/whorl-go/whorl/client"
)

// demonstrate has some people talk, and then the server end.
func demonstrate(co context.Context, show io.Writer, address string, end func()) error {
	p := play{co: co, show: show, address: address}
	alice := p.enter("alice", client.Config{})
	defer alice.conn.Close()
	alice.reads()
	alice.says("/nick alice")
	alice.reads()

	bob := p.enter("bob", client.Config{})
	defer bob.conn.Close()
	bob.reads()
	alice.reads()
	bob.says("/nick alice")
	bob.reads()
	bob.says("/nick bob")
	bob.reads()
	alice.reads()

	alice.says("hello")
	bob.reads()
	bob.says("/to alice good evening")
	alice.reads()

	fmt.Fprintln(show, "A third one comes, who never reads, and alice goes on talking.")
	p.talkPast(alice, bob)
	bob.says("/who")
	bob.reads()
	bob.says("/quit")
	alice.reads()

	end()
	alice.reads()
	return p.err
}

// A play is a demonstration. After an error nothing more happens in it.
type play struct {
	co      context.Context
	show    io.Writer
	address string
	err     error
}

type person struct {
	*play
	name string
	conn *client.Client
}

// enter has somebody connect.
func (p *play) enter(name string, config client.Config) *person {
	config.EOF = "\n"
	one := &person{p, name, client.New(config)}
	if p.err == nil {
		p.err = one.conn.Connect(p.co, "tcp", p.address)
	}
	return one
}

func (p *person) says(text string) {
	if p.err == nil {
		fmt.Fprintf(p.show, "%-5s says:  %s\n", p.name, text)
		_, p.err = p.conn.Send(p.co, []byte(text+"\n"))
	}
}

func (p *person) reads() {
	if line := p.hears(); p.err == nil {
		fmt.Fprintf(p.show, "%-5s reads: %s\n", p.name, line)
	}
}

// hears reads a line and keeps it to oneself.
func (p *person) hears() string {
	if p.err != nil {
		return ""
	}
	line, err := p.conn.Recv(p.co)
	if err != nil {
		p.err = fmt.Errorf("%s reads: %w", p.name, err)
	}
	return strings.TrimSuffix(string(line), "\n")
}

// talkPast has one talk to another until a third, who doesn't read, is dropped.
func (p *play) talkPast(one, other *person) {
	third := p.enter("third", client.Config{ReceiveBuffer: 16 << 10})
	defer third.conn.Close()
	one.hears()
	other.hears()
	words := strings.Repeat("and so on, ", 90)
	const most = 10_000 // lines: more than all buffers on the way hold
	for range most {
		if p.err != nil {
			return
		}
		if _, p.err = one.conn.Send(p.co, []byte(words+"\n")); p.err != nil {
			return
		}
		if heard := other.hears(); strings.HasPrefix(heard, "*") {
			fmt.Fprintf(p.show, "%-5s reads: %s\n", other.name, heard)
			one.hears()
			other.hears() // the line that was under way
			return
		}
	}
	p.err = errors.New("who doesn't read is not dropped")
}
