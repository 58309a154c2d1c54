package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// demonstrate has some people talk, and then the server end.
func demonstrate(
	co context.Context, show io.Writer, plain, secure string, roots *x509.CertPool, end func(),
) error {
	p := play{co: co, show: show, plain: plain, config: websocket.ClientConfig{
		Options: websocket.Options{Subprotocols: []string{"chat"}},
		Client:  client.Config{TLS: &tls.Config{RootCAs: roots}},
	}}
	p.refused("mallory, without a token:", "ws://"+plain+"/ws")
	p.refused("mallory, elsewhere:      ", "ws://"+plain+"/other")
	alice := p.enter("alice", "over ws, ", "ws://"+plain)
	alice.joins("lobby")
	alice.gets()
	bob := p.enter("bob", "over wss,", "wss://"+secure)
	bob.joins("lobby")
	bob.gets()
	alice.gets()
	alice.says("lobby", "hello")
	alice.gets()
	bob.gets()
	bob.goes()
	alice.gets()
	if p.err == nil {
		fmt.Fprintln(show, "The server ends")
		end()
		alice.isTold()
	}
	return p.err
}

// A play is a demonstration. After an error nothing more happens in it.
type play struct {
	co     context.Context
	show   io.Writer
	plain  string // address
	config websocket.ClientConfig
	err    error
}

type actor struct {
	*play
	name string
	conn *websocket.Conn
}

func (p *play) refused(who, url string) {
	if p.err != nil {
		return
	}
	c, err := websocket.Dial(p.co, url, p.config)
	refused, ok := errors.AsType[*websocket.DialError](err)
	if !ok {
		c.Abort()
		p.err = fmt.Errorf("%s %v", who, err)
		return
	}
	fmt.Fprintf(p.show, "%s %s status %d\n", who, refused.Layer, refused.Status)
}

// enter has somebody fetch a token and connect.
func (p *play) enter(name, way, address string) *actor {
	one := &actor{play: p, name: name}
	if p.err != nil {
		return one
	}
	var token string
	if token, p.err = p.token(name); p.err != nil {
		return one
	}
	if one.conn, p.err = websocket.Dial(p.co, address+"/ws?token="+token, p.config); p.err == nil {
		fmt.Fprintf(p.show, "%-6s %s gets: %s\n", name+",", way, one.hears())
	}
	return one
}

// token asks for one. net/http's client waits on Go channels, which must not be done on a loop.
func (p *play) token(name string) (string, error) {
	return runtime.Await(p.co, func() (string, error) {
		transport := new(http.Transport)
		defer transport.CloseIdleConnections()
		browser := &http.Client{Transport: transport}
		response, err := browser.PostForm("http://"+p.plain+"/token", url.Values{"name": {name}})
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		var answer struct{ Token string }
		err = json.NewDecoder(response.Body).Decode(&answer)
		return answer.Token, err
	})
}

func (a *actor) joins(room string) {
	a.push(message{Type: "join", Room: room})
	a.shows("joins the %s", room)
}

func (a *actor) says(room, text string) {
	a.push(message{Type: "say", Room: room, Text: text})
	a.shows("says: %s", text)
}

func (a *actor) push(m message) {
	if a.err == nil {
		_, a.err = a.conn.Push(m.encode(), websocket.Text)
	}
}

func (a *actor) shows(format string, values ...any) {
	if a.err == nil {
		fmt.Fprintf(a.show, "%-5s "+format+"\n", append([]any{a.name}, values...)...)
	}
}

func (a *actor) gets() { a.shows("gets: %s", a.hears()) }

// hears returns the next message in words.
func (a *actor) hears() string {
	if a.err != nil {
		return ""
	}
	got, err := a.conn.Recv(a.co)
	var m message
	if err == nil {
		err = json.Unmarshal(got.Data, &m)
	}
	if err != nil {
		a.err = fmt.Errorf("%s: %w", a.name, err)
	}
	switch m.Type {
	case "welcome":
		return "welcome, " + m.Name
	case "members":
		var names []string
		for _, one := range m.Members {
			names = append(names, one.Name)
		}
		slices.Sort(names)
		return "in " + m.Room + " are " + strings.Join(names, ", ")
	case "joined":
		return m.Name + " has come to " + m.Room
	case "left":
		return m.Name + " has left " + m.Room
	}
	return m.Name + " in " + m.Room + ": " + m.Text
}

func (a *actor) goes() {
	if a.err == nil {
		a.err = a.conn.Close(websocket.StatusNormal, "")
		a.shows("goes")
	}
}

// isTold waits for the end of the connection.
func (a *actor) isTold() {
	_, err := a.conn.Recv(a.co)
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		a.err = fmt.Errorf("%s: %w", a.name, err)
		return
	}
	a.shows("is told %d, and that is clean: %v", closed.Code, closed.Clean)
}
