package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// demonstrate has people talk on three nodes, of which one is killed.
func demonstrate(ctx context.Context, stdout io.Writer) error {
	url, end, err := startNATS(true)
	if err != nil {
		return err
	}
	defer end()
	children, err := startThree(url, true)
	if err != nil {
		return err
	}
	defer stopAll(children)
	return runtime.Run(func(co context.Context) error {
		co, cancel := context.WithTimeout(co, time.Minute)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		p := &play{co: co, stdout: stdout}
		// On a goroutine, since processes are waited for, and standard output may block.
		_, err := runtime.Await(context.WithoutCancel(co), func() (struct{}, error) {
			p.show(children)
			return struct{}{}, p.err
		})
		return err
	})
}

// show is the play.
func (p *play) show(children []*child) {
	for _, c := range children {
		p.tells("%s on http://%s/", c.name, c.address)
	}
	person := func(name string) *actor { return &actor{play: p, name: name} }
	anna, bert, cleo := person("anna"), person("bert"), person("cleo")
	all := []*actor{anna, bert, cleo}
	for i, one := range all {
		one.joins(children[i])
	}
	const full = "anna at alpha, bert at beta, cleo at gamma"
	for _, one := range all {
		one.sees(full)
	}
	anna.says("hello", all...)
	bert.says("@cleo only you", bert, cleo)

	p.do(func() error { children[2].kill(); return nil })
	p.tells("gamma is killed")
	for _, one := range all[:2] {
		one.misses()
		one.sees("anna at alpha, bert at beta")
	}
	anna.says("where is cleo?", anna, bert)
	p.do(children[2].start)
	p.tells("gamma is there again")
	cleo.joins(children[2])
	cleo.hears()
	for _, one := range all {
		one.sees(full)
	}
	cleo.says("here I am", all...)

	p.tells("All nodes are told to end")
	p.do(func() error { stopAll(children); return nil })
	for _, one := range all {
		one.isTold()
	}
}

// A play is a demonstration. After an error nothing more happens in it.
type play struct {
	co     context.Context
	stdout io.Writer
	err    error
}

func (p *play) do(what func() error) {
	if p.err == nil {
		p.err = what()
	}
}

func (p *play) tells(format string, values ...any) {
	if p.err == nil {
		fmt.Fprintf(p.stdout, format+"\n", values...)
	}
}

type actor struct {
	*play
	name  string
	conn  *websocket.Conn
	at    *cluster.Position // of the last message
	ahead []message         // those that have come before what was waited for
}

// joins has somebody connect, and join the lobby. Whoever was there before gets what was said
// since.
func (a *actor) joins(c *child) {
	a.do(func() (err error) {
		url := "ws://" + c.address + "/ws?name=" + a.name
		a.conn, err = websocket.Dial(a.co, url, websocket.ClientConfig{})
		return err
	})
	a.ahead = nil
	a.push(message{Type: "join", Room: "lobby", At: a.at})
	a.tells("%s joins lobby at %s", a.name, c.name)
	if m := a.next("joined"); m.At != nil && a.at == nil {
		a.at = m.At
	}
}

// says has somebody say something, or tell it one alone, and some hear it.
func (a *actor) says(text string, heard ...*actor) {
	m := message{Type: "say", Room: "lobby", Text: text}
	if user, rest, alone := strings.Cut(strings.TrimPrefix(text, "@"), " "); alone && text[0] == '@' {
		m = message{Type: "tell", User: user, Text: rest}
	}
	a.push(m)
	a.tells("%s says: %s", a.name, text)
	for _, one := range heard {
		one.hears()
	}
}

func (a *actor) push(m message) {
	a.do(func() error {
		text := m.text()
		_, err := a.conn.Push(text.Data, text.Opcode)
		return err
	})
}

// hears waits for what somebody says.
func (a *actor) hears() {
	m := a.next("said", "told")
	to := "in " + m.Room
	if m.Type == "told" {
		to = "to " + m.User
	} else {
		a.at = m.At
	}
	a.tells("%s gets: %s at %s, %s: %s", a.name, m.Name, m.Node, to, m.Text)
}

// misses waits for the gaps that a node which is gone leaves: what it said last may never have got
// anywhere.
func (a *actor) misses() {
	for room, alone := false, false; a.err == nil && !(room && alone); {
		m := a.next("gap")
		room, alone = room || m.Room != "", alone || m.User != ""
	}
	a.tells("%s is told of gaps: messages in lobby, and to %s alone, may be lost", a.name, a.name)
}

// sees waits until the room has these members. Nodes hear of each other's one after the other.
func (a *actor) sees(want string) {
	for got := ""; got != want && a.err == nil; {
		var all []string
		for _, one := range a.next("here").Members {
			all = append(all, one.Name+" at "+one.Node)
		}
		got = strings.Join(all, ", ")
	}
	a.tells("%s sees: %s", a.name, want)
}

// next returns the next message of one of these types.
func (a *actor) next(types ...string) (m message) {
	for i, m := range a.ahead {
		if slices.Contains(types, m.Type) {
			a.ahead = slices.Delete(a.ahead, i, i+1)
			return m
		}
	}
	for a.err == nil {
		m = message{}
		got, err := a.conn.Recv(a.co)
		if err == nil {
			err = json.Unmarshal(got.Data, &m)
		}
		switch {
		case err != nil:
			a.err = fmt.Errorf("%s waits for %q: %w", a.name, types, err)
		case slices.Contains(types, m.Type):
			return m
		}
		a.ahead = append(a.ahead, m)
	}
	return message{}
}

// isTold waits for the end of the connection.
func (a *actor) isTold() {
	for a.err == nil {
		_, err := a.conn.Recv(a.co)
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
			a.tells("%s is told %d", a.name, closed.Code)
			return
		}
		a.err = err
	}
}
