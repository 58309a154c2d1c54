package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// demonstrate asks the server some things.
func demonstrate(
	co context.Context, show io.Writer, plain, secure string, roots *x509.CertPool, end func(),
) error {
	// net/http's client waits on Go channels, too.
	_, err := runtime.Await(co, func() (none struct{}, err error) {
		return none, ask(show, "http://"+plain, "https://"+secure, roots)
	})
	if err != nil {
		return err
	}
	c, err := websocket.Dial(co, "ws://"+plain+"/ws", websocket.ClientConfig{})
	if err != nil {
		return err
	}
	c.Push([]byte("hello"), websocket.Text)
	m, err := c.Recv(co)
	if err != nil {
		return err
	}
	fmt.Fprintf(show, "WebSocket at /ws: %s\n", m.Data)
	end()
	_, err = c.Recv(co)
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return err
	}
	fmt.Fprintf(show, "At the end it is told %d\n", closed.Code)
	return nil
}

// A browser asks in one version of HTTP. After an error it asks nothing more.
type browser struct {
	http.Client
	show io.Writer
	base string
	err  error
}

func newBrowser(
	show io.Writer, base string, roots *x509.CertPool, set func(*http.Protocols),
) *browser {
	jar, err := cookiejar.New(nil)
	transport := &http.Transport{
		DialContext:     new(hooks.Dialer).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots},
		Protocols:       new(http.Protocols),
	}
	set(transport.Protocols)
	return &browser{http.Client{Transport: transport, Jar: jar}, show, base, err}
}

func ask(show io.Writer, plain, secure string, roots *x509.CertPool) error {
	one := newBrowser(show, plain, roots, func(p *http.Protocols) { p.SetHTTP1(true) })
	one.get("/hello/Ada")
	one.get("/nowhere")
	form := url.Values{"name": {"Ada"}, "year": {"1815"}}
	one.post("/form", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	one.post("/upload", "application/octet-stream", bytes.NewReader(make([]byte, 1<<20)))
	one.post("/upload", "application/octet-stream", bytes.NewReader(make([]byte, maxUpload+1)))
	one.get("/visits")
	one.get("/visits")
	one.get("/events")
	one.get("/files/readme.txt")
	two := newBrowser(show, plain, roots, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	two.get("/hello/Ada")
	over := newBrowser(show, secure, roots, func(p *http.Protocols) { p.SetHTTP2(true) })
	over.get("/hello/Ada")
	for _, b := range []*browser{one, two, over} {
		b.CloseIdleConnections()
	}
	return errors.Join(one.err, two.err, over.err)
}

func (b *browser) get(path string) {
	if b.err == nil {
		response, err := b.Get(b.base + path)
		b.shows("GET "+path, response, err)
	}
}

func (b *browser) post(path, kind string, body io.Reader) {
	if b.err == nil {
		response, err := b.Post(b.base+path, kind, body)
		b.shows("POST "+path, response, err)
	}
}

func (b *browser) shows(request string, response *http.Response, err error) {
	if err != nil {
		b.err = err
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	b.err = err
	version := response.Proto
	if response.TLS != nil {
		version += " over " + tls.VersionName(response.TLS.Version)
	}
	text := strings.NewReplacer("data: ", "", "\n\n", ", ").Replace(strings.TrimSpace(string(body)))
	fmt.Fprintf(b.show, "%s, %s: %d %s\n", version, request, response.StatusCode, text)
}
