//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/development"
	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// house is the example with people of the test in it.
type house struct {
	t    *testing.T
	ctx  context.Context
	http *http.Client
	base string
}

func serve(t *testing.T) *house {
	t.Helper()
	base, _ := exampletest.Serve(t, run, "Chat on ")
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(runtimetest.Start(t).Context(), exampletest.Patience)
	t.Cleanup(cancel)
	return &house{t, ctx, &http.Client{Transport: transport}, strings.TrimSuffix(base, "/")}
}

// token asks for one, and returns what else the answer is.
func (h *house) token(name string) (token string, status int) {
	h.t.Helper()
	resp, err := h.http.PostForm(h.base+"/token", url.Values{"name": {name}})
	leaktest.Check(h.t, err)
	defer resp.Body.Close()
	var answer struct{ Token string }
	json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Token, resp.StatusCode
}

func (h *house) dial(token string) (*websocket.Conn, error) {
	c, err := websocket.Dial(h.ctx, "ws"+strings.TrimPrefix(h.base, "http")+"/ws?token="+token,
		websocket.ClientConfig{Options: websocket.Options{Subprotocols: []string{"chat"}}})
	if err == nil {
		h.t.Cleanup(c.Abort)
	}
	return c, err
}

type visitor struct {
	*house
	*websocket.Conn
}

// visit has somebody come into the rooms.
func (h *house) visit(name string, rooms ...string) visitor {
	h.t.Helper()
	token, _ := h.token(name)
	c, err := h.dial(token)
	leaktest.Check(h.t, err)
	v := visitor{h, c}
	if m := v.expect("welcome"); m.Name != name || m.ID == 0 || c.Subprotocol() != "chat" {
		h.t.Fatalf("%+v, %q", m, c.Subprotocol())
	}
	for _, room := range rooms {
		v.send(message{Type: "join", Room: room})
		v.expect("members")
	}
	return v
}

func (v visitor) send(m message) {
	v.t.Helper()
	if _, err := v.Push(m.encode(), websocket.Text); err != nil {
		v.t.Fatal(err)
	}
}

func (v visitor) expect(kind string) (m message) {
	v.t.Helper()
	got, err := v.Recv(v.ctx)
	if err == nil {
		err = json.Unmarshal(got.Data, &m)
	}
	if err != nil || m.Type != kind {
		v.t.Fatalf("%s, %v; want %s", got.Data, err, kind)
	}
	return m
}

func (v visitor) expectEnd(code int) {
	v.t.Helper()
	for {
		_, err := v.Recv(v.ctx)
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code == code {
			return
		}
		if err != nil {
			v.t.Fatalf("%v; want the end, with %d", err, code)
		}
	}
}

func TestTalkStaysInItsRoom(t *testing.T) {
	h := serve(t)
	anna := h.visit("Anna", "lobby", "go")
	jörg := h.visit("Jörg", "go")
	if m := anna.expect("joined"); m.Name != "Jörg" || m.Room != "go" {
		t.Errorf("%+v", m)
	}
	anna.send(message{Type: "say", Room: "lobby", Text: "not for Jörg"})
	anna.expect("said")
	anna.send(message{Type: "say", Room: "go", Text: "for him"})
	for _, v := range []visitor{anna, jörg} {
		if m := v.expect("said"); m.Text != "for him" || m.Name != "Anna" || m.ID == 0 || m.Time == 0 {
			t.Errorf("%+v", m)
		}
	}
	jörg.send(message{Type: "say", Room: "lobby", Text: "he isn't in it"})
	jörg.expect("error")
	jörg.send(message{Type: "leave", Room: "go"})
	if m := anna.expect("left"); m.Name != "Jörg" {
		t.Errorf("%+v", m)
	}
	berta := h.visit("Berta", "go")
	anna.expect("joined")
	berta.Abort()
	if m := anna.expect("left"); m.Name != "Berta" {
		t.Errorf("%+v", m)
	}
}

func TestWhatIsRefused(t *testing.T) {
	h := serve(t)
	for _, name := range []string{"", "a b", "<b>", "a\x1b[2J", "\xff", strings.Repeat("a", 21)} {
		if _, status := h.token(name); status != http.StatusBadRequest {
			t.Errorf("the name %q: status %d", name, status)
		}
	}
	token, _ := h.token("Anna")
	for _, wrong := range []string{"", "x", token + "x", "x" + token, strings.Replace(token, ".", ".9", 1)} {
		_, err := h.dial(wrong)
		refused, ok := errors.AsType[*websocket.DialError](err)
		if !ok || refused.Status != http.StatusUnauthorized {
			t.Errorf("the token %q: %v", wrong, err)
		}
	}
	anna := h.visit("Anna")
	anna.send(message{Type: "join", Room: "not a name"})
	anna.expect("error")
	anna.send(message{Type: "join", Room: "go"})
	anna.expect("members")
	anna.send(message{Type: "say", Room: "go", Text: strings.Repeat("x", maxText+1)})
	anna.expect("error")
	anna.Push([]byte("no JSON"), websocket.Text)
	anna.expectEnd(websocket.StatusUnsupportedData)

	bert := h.visit("Bert")
	for i := range maxRooms + 1 {
		bert.send(message{Type: "join", Room: string(rune('a' + i))})
	}
	for range maxRooms {
		bert.expect("members")
	}
	bert.expect("error")
	for range maxRate {
		bert.send(message{Type: "say", Room: "a", Text: "again"})
	}
	bert.expectEnd(websocket.StatusPolicyViolation)
}

func TestAPassIsGoodForAMinute(t *testing.T) {
	p, now := newPasses(), time.Now()
	pass := p.issue("Jörg", now)
	if name, ok := p.check(pass, now.Add(passLife)); name != "Jörg" || !ok {
		t.Errorf("%q, %v", name, ok)
	}
	if name, ok := p.check(pass, now.Add(passLife+time.Second)); ok {
		t.Errorf("%q has come in too late", name)
	}
	if name, ok := newPasses().check(pass, now); ok {
		t.Errorf("%q has come in with a pass of another server", name)
	}
}

func TestPage(t *testing.T) {
	h := serve(t)
	for path, want := range map[string]string{"/": "text/html", "/chat.js": "text/javascript", "/icon.svg": "image/svg+xml"} {
		resp, err := h.http.Get(h.base + path)
		leaktest.Check(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, want) ||
			!strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}

// A browser that trusts the authority comes back after a restart.
func TestTheAuthorityIsKept(t *testing.T) {
	folder := t.TempDir()
	_, roots, err := development.Certificate(folder)
	leaktest.Check(t, err)
	first, stop := exampletest.Serve(t, run, "Chat on ", "-secure", "127.0.0.1:0", "-ca", folder)
	_, secure, _ := strings.Cut(first, " and https")
	_, err = websocket.Dial(runtimetest.Start(t).Context(), "wss"+secure+"ws",
		websocket.ClientConfig{Client: client.Config{TLS: &tls.Config{RootCAs: roots}}})
	refused, ok := errors.AsType[*websocket.DialError](err)
	if !ok || refused.Status != http.StatusUnauthorized { // not TLS has refused it
		t.Error(err)
	}
	stop()
}

func TestFlags(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	leaktest.Check(t, err)
	defer taken.Close()
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":        {"-x"},
		"not an IP address":      {"-listen", "example.com:0"},
		"are for -listen":        {"-secure", "127.0.0.1:0"},
		"-ca is for -secure":     {"-listen", "127.0.0.1:0", "-ca", "x"},
		"address already in use": {"-listen", "127.0.0.1:0", "-secure", taken.Addr().String()},
	}, "-listen", "-secure", "-ca")
}
