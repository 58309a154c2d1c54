//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

// The processes that the example starts are this one again, as the example.
func TestMain(m *testing.M) {
	const variable = "WHORL_TEST_CLUSTER"
	if os.Getenv(variable) != "" {
		main()
		return
	}
	os.Setenv(variable, "yes")
	goleak.VerifyTestMain(m)
}

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// house is a node with people of the test in it.
type house struct {
	t    *testing.T
	ctx  context.Context
	base string
	stop func() string
}

func startServer(t *testing.T, config nats.EmbeddedConfig) *nats.Server {
	t.Helper()
	config.Listen = true
	s, err := nats.Embedded(config)
	leaktest.Check(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func serve(t *testing.T, name, urls string, more ...string) *house {
	t.Helper()
	args := append([]string{"-node", name, "-nats", urls}, more...)
	base, stop := exampletest.Serve(t, run, name+" on http://", args...)
	ctx, cancel := context.WithTimeout(runtimetest.Start(t).Context(), exampletest.Patience)
	t.Cleanup(cancel)
	return &house{t, ctx, strings.TrimSuffix(base, "/"), stop}
}

// servePair starts two nodes over one NATS.
func servePair(t *testing.T, more ...string) (one, two *house) {
	t.Helper()
	url := startServer(t, nats.EmbeddedConfig{JetStream: t.TempDir()}).URL()
	return serve(t, "one", url, more...), serve(t, "two", url, more...)
}

type visitor struct {
	*house
	*websocket.Conn
	here map[string]message // by room: the last one of who is where
}

func (h *house) dial(name string) (*websocket.Conn, error) {
	c, err := websocket.Dial(h.ctx, "ws://"+h.base+"/ws?name="+url.QueryEscape(name), websocket.ClientConfig{})
	if err == nil {
		h.t.Cleanup(c.Abort)
	}
	return c, err
}

// visit has somebody come into the rooms.
func (h *house) visit(name string, rooms ...string) visitor {
	h.t.Helper()
	c, err := h.dial(name)
	leaktest.Check(h.t, err)
	v := visitor{h, c, map[string]message{}}
	if m := v.expect("welcome"); m.Name != name || m.Node == "" {
		h.t.Fatalf("%+v", m)
	}
	for _, room := range rooms {
		v.send(message{Type: "join", Room: room})
		v.expect("joined")
	}
	return v
}

func (v visitor) send(m message) {
	v.t.Helper()
	text := m.text()
	_, err := v.Push(text.Data, text.Opcode)
	leaktest.Check(v.t, err)
}

// expect returns the next message, but for those of who is where, which come when they come.
func (v visitor) expect(kind string) message {
	v.t.Helper()
	for {
		m := v.receive()
		if m.Type == kind {
			return m
		}
		if m.Type != "here" {
			v.t.Fatalf("%+v; want %s", m, kind)
		}
	}
}

// sees waits until a room has these members.
func (v visitor) sees(room string, want ...person) {
	v.t.Helper()
	for !slices.Equal(v.here[room].Members, want) || v.here[room].Count != len(want) {
		v.receive()
	}
}

func (v visitor) receive() (m message) {
	v.t.Helper()
	got, err := v.Recv(v.ctx)
	if err == nil {
		err = json.Unmarshal(got.Data, &m)
	}
	leaktest.Check(v.t, err)
	if m.Type == "here" {
		v.here[m.Room] = m
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

func TestTalkOverTwoNodes(t *testing.T) {
	one, two := servePair(t)
	anna, bert := one.visit("Anna", "lobby", "go"), two.visit("Bert", "go")
	both := []person{{"Anna", "one"}, {"Bert", "two"}}
	anna.sees("go", both...)
	bert.sees("go", both...)
	anna.send(message{Type: "say", Room: "lobby", Text: "not for Bert"})
	anna.expect("said")
	anna.send(message{Type: "say", Room: "go", Text: "for him"})
	for _, v := range []visitor{anna, bert} {
		m := v.expect("said")
		if m.Text != "for him" || m.Name != "Anna" || m.Node != "one" || m.Room != "go" || m.Time == 0 || m.At != nil {
			t.Errorf("%+v", m)
		}
	}
	bert.send(message{Type: "tell", User: "Anna", Text: "you alone"})
	for _, v := range []visitor{anna, bert} {
		if m := v.expect("told"); m.Text != "you alone" || m.Name != "Bert" || m.User != "Anna" || m.Node != "two" {
			t.Errorf("%+v", m)
		}
	}
	bert.send(message{Type: "say", Room: "lobby", Text: "he isn't in it"})
	bert.expect("error")
	bert.send(message{Type: "leave", Room: "go"})
	anna.sees("go", both[0])
	again := two.visit("Berta", "go")
	anna.sees("go", both[0], person{"Berta", "two"})
	again.Abort()
	anna.sees("go", both[0])
	third := two.visit("Cleo", "go")
	anna.sees("go", both[0], person{"Cleo", "two"})
	two.stop()
	third.expectEnd(websocket.StatusGoingAway)
	anna.sees("go", both[0])
}

// Whoever comes back with the position of the last message gets what was said since, on whatever
// node, or is told that it isn't there any more.
func TestWhatWasMissed(t *testing.T) {
	one, two := servePair(t, "-history")
	anna, bert := one.visit("Anna", "go"), two.visit("Bert")
	bert.send(message{Type: "join", Room: "go"})
	at := bert.expect("joined").At
	if at == nil {
		t.Fatal("there is no position")
	}
	bert.Abort()
	for i := range 3 {
		anna.send(message{Type: "say", Room: "go", Text: strconv.Itoa(i)})
		if m := anna.expect("said"); m.At == nil || m.At.Epoch != at.Epoch || m.At.Offset <= at.Offset {
			t.Fatalf("%+v behind %+v", m, at)
		}
	}
	for _, h := range []*house{one, two} {
		bert := h.visit("Bert")
		bert.send(message{Type: "join", Room: "go", At: at})
		for i := range 3 {
			if m := bert.expect("said"); m.Text != strconv.Itoa(i) || m.Name != "Anna" || m.Node != "one" {
				t.Errorf("%+v", m)
			}
		}
		if m := bert.expect("joined"); m.Lost || m.At.Offset <= at.Offset {
			t.Errorf("%+v", m)
		}
	}
	cleo := two.visit("Cleo")
	cleo.send(message{Type: "join", Room: "go", At: &cluster.Position{Offset: 1, Epoch: "another"}})
	if m := cleo.expect("joined"); !m.Lost {
		t.Errorf("%+v", m)
	}
}

// What may be lost while there is no connection to NATS is told.
func TestGapsAreTold(t *testing.T) {
	first := startServer(t, nats.EmbeddedConfig{Token: "test"})
	h := serve(t, "one", first.URL())
	anna := h.visit("Anna", "go")
	anna.send(message{Type: "say", Room: "go", Text: "with a connection"})
	anna.expect("said")
	at, err := url.Parse(first.URL())
	leaktest.Check(t, err)
	port, err := strconv.Atoi(at.Port())
	leaktest.Check(t, err)
	leaktest.Check(t, first.Close(context.Background()))
	anna.send(message{Type: "say", Room: "go", Text: "without one"})
	startServer(t, nats.EmbeddedConfig{Token: "test", Port: port})
	of := map[string]bool{}
	for !of["go"] || !of["Anna"] {
		if m := anna.receive(); m.Type == "gap" {
			of[m.Room+m.User] = true
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	h := serve(t, "one", startServer(t, nats.EmbeddedConfig{}).URL())
	for _, name := range []string{"", "a b", "a..b", ">", "a\x1b[2J", "\xff", strings.Repeat("a", maxName+1)} {
		_, err := h.dial(name)
		refused, ok := errors.AsType[*websocket.DialError](err)
		if !ok || refused.Status != http.StatusBadRequest {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	anna := h.visit("Anna", "go")
	for _, m := range []message{
		{Type: "join", Room: "a b"}, {Type: "join", Room: "*"}, {Type: "join"},
		{Type: "join", Room: strings.Repeat("a", maxName+1)},
		{Type: "say", Room: "go"}, {Type: "say", Room: "go", Text: strings.Repeat("x", maxText+1)},
		{Type: "say", Room: "elsewhere", Text: "x"}, {Type: "tell", User: "a b", Text: "x"},
		{Type: "tell", User: "Anna"}, {Type: "said", Room: "go", Text: "forged"}, {Type: "join", Room: "go"},
	} {
		anna.send(m)
		if got := anna.expect("error"); got.Room != m.Room {
			t.Errorf("%+v: %+v", m, got)
		}
	}
	for i := range maxRooms - 1 {
		anna.send(message{Type: "join", Room: strconv.Itoa(i)})
		anna.expect("joined")
	}
	anna.send(message{Type: "join", Room: "one too many"})
	anna.expect("error")
	anna.Push([]byte("no JSON"), websocket.Text)
	anna.expectEnd(websocket.StatusUnsupportedData)
}

func TestPage(t *testing.T) {
	h := serve(t, "one", startServer(t, nats.EmbeddedConfig{}).URL())
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	for path, want := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		resp, err := (&http.Client{Transport: transport}).Get("http://" + h.base + path)
		leaktest.Check(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, want) ||
			!strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'self'") {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}

func TestFlags(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	leaktest.Check(t, err)
	defer taken.Close()
	node := []string{"-node", "one", "-listen", "127.0.0.1:0", "-nats"}
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":                  {"-x"},
		"exclude each other":               {"-serve", "-node", "one"},
		"-node wants -listen and -nats":    {"-node", "one", "-listen", "127.0.0.1:0"},
		"-listen is for -node":             {"-serve", "-listen", "127.0.0.1:0"},
		"-nats - is for -node":             {"-serve", "-nats", "-"},
		"-nats and -history are for":       {"-history"},
		"-nats: cluster/nats: URL 1":       append(slices.Clone(node), "http://127.0.0.1"),
		"connection refused":               append(slices.Clone(node), "nats://127.0.0.1:1"),
		"-node: cluster: not a name":       {"-node", "o n e", "-listen", "127.0.0.1:0", "-nats", "nats://127.0.0.1"},
		"address already in use":           {"-node", "one", "-listen", taken.Addr().String(), "-nats", "nats://127.0.0.1:1"},
		"alpha doesn't start: exit status": {"-serve", "-nats", "nats://127.0.0.1:1"},
	}, "-listen", "-serve", "-node", "-nats", "-history")
}
