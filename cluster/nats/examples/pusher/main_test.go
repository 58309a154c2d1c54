//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// The examples of Pusher's documentation.
func TestSignatures(t *testing.T) {
	a := app{"3", "278d425bdf160c739803", "7ad3773142a6692b25b8"}
	for _, test := range [][3]string{
		{"private-foobar", "", "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"},
		{"presence-foobar", `{"user_id":10,"user_info":{"name":"Mr. Channels"}}`, "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"},
	} {
		if got := a.grant("1234.1234", test[0], test[1]); got != a.key+":"+test[2] {
			t.Errorf("%s: %s", test[0], got)
		}
	}
	body := []byte(`{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`)
	query, err := url.ParseQuery("auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0" +
		"&body_md5=ec365a775a4cd0599faeb73354201b6f" +
		"&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c")
	leaktest.Check(t, err)
	at := time.Unix(1353088179, 0)
	if err := a.requested("POST", "/apps/3/events", query, body, at); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"an old request": a.requested("POST", "/apps/3/events", query, body, at.Add(time.Hour)),
		"another body":   a.requested("POST", "/apps/3/events", query, body[1:], at),
		"another path":   a.requested("POST", "/apps/4/events", query, body, at),
		"another method": a.requested("PUT", "/apps/3/events", query, body, at),
		"another app":    app{"3", "x", a.secret}.requested("POST", "/apps/3/events", query, body, at),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

// house is the example with its backend.
type house struct {
	t       *testing.T
	ctx     context.Context
	address string
	app     app
	stop    func() string
}

func serve(t *testing.T, args ...string) *house {
	t.Helper()
	t.Setenv("PUSHER_APP_SECRET", "secret")
	first, stop := exampletest.Serve(t, run, "Pusher on ws://", args...)
	ctx, cancel := context.WithTimeout(runtimetest.Start(t).Context(), exampletest.Patience)
	t.Cleanup(cancel)
	return &house{t, ctx, strings.TrimSuffix(first, "/app/demo"), app{"1", "demo", "secret"}, stop}
}

type peer struct {
	*house
	*websocket.Conn
	socketID string
}

func (h *house) dial(path string) peer {
	h.t.Helper()
	c, err := websocket.Dial(h.ctx, "ws://"+h.address+path, websocket.ClientConfig{})
	leaktest.Check(h.t, err)
	h.t.Cleanup(c.Abort)
	return peer{house: h, Conn: c}
}

// connect is dial for those whom the server knows.
func (h *house) connect() peer {
	h.t.Helper()
	p := h.dial("/app/demo?protocol=7")
	var data struct {
		SocketID string `json:"socket_id"`
	}
	json.Unmarshal([]byte(p.expect("pusher:connection_established", "")), &data)
	p.socketID = data.SocketID
	return p
}

func (p peer) say(text string) {
	p.t.Helper()
	_, err := p.Push([]byte(text), websocket.Text)
	leaktest.Check(p.t, err)
}

// expect receives an event, and returns its data.
func (p peer) expect(event, channel string) (data string) {
	p.t.Helper()
	got, err := p.Recv(p.ctx)
	leaktest.Check(p.t, err)
	var m message
	json.Unmarshal(got.Data, &m)
	if m.Event != event || m.Channel != channel {
		p.t.Fatalf("%s; want %s, %s", got.Data, event, channel)
	}
	json.Unmarshal(m.Data, &data)
	return data
}

func (p peer) expectEnd(code int) {
	p.t.Helper()
	_, err := p.Recv(p.ctx)
	if closed, ok := errors.AsType[*websocket.CloseError](err); !ok || closed.Code != code {
		p.t.Fatalf("%v; want the end, with %d", err, code)
	}
}

func (p peer) enter(channel, data string) {
	p.t.Helper()
	subscription, _ := json.Marshal(map[string]string{
		"channel": channel, "auth": p.app.grant(p.socketID, channel, data), "channel_data": data,
	})
	p.say(`{"event":"pusher:subscribe","data":` + string(subscription) + `}`)
}

func TestWhoIsRefused(t *testing.T) {
	h := serve(t)
	for path, code := range map[string]int{
		"/app/other?protocol=7": noApp,
		"/app/demo?protocol=4":  unsupportedVersion,
		"/app/demo":             unsupportedVersion,
	} {
		p := h.dial(path)
		if data := p.expect("pusher:error", ""); !strings.Contains(data, fmt.Sprint(code)) {
			t.Errorf("%s: %s", path, data)
		}
		p.expectEnd(code)
	}
	p := h.connect()
	p.say("{")
	p.expectEnd(websocket.StatusUnsupportedData)
	p = h.connect()
	for range maxMessages + 1 {
		p.say(`{"event":"pusher:nothing"}`)
	}
	p.expect("pusher:error", "")
	p.expectEnd(overQuota)
}

func TestChannels(t *testing.T) {
	h := serve(t)
	p, other := h.connect(), h.connect()
	p.say(`{"event":"pusher:ping","data":{}}`)
	p.expect("pusher:pong", "")
	p.say(`{"event":"pusher:subscribe","data":{"channel":"no name"}}`)
	p.expect("pusher:error", "")
	p.say(`{"event":"client-x","channel":"private-a","data":{}}`) // it isn't in it
	p.expect("pusher:error", "")
	p.enter("news", "")
	p.expect("pusher_internal:subscription_succeeded", "news")
	p.say(`{"event":"client-x","channel":"news","data":{}}`) // nor may it there
	p.expect("pusher:error", "")
	for _, one := range []peer{p, other} {
		one.enter("private-a", "")
		one.expect("pusher_internal:subscription_succeeded", "private-a")
	}
	for range maxRate + 1 {
		p.say(`{"event":"client-x","channel":"private-a","data":"it"}`)
	}
	if data := p.expect("pusher:error", ""); !strings.Contains(data, fmt.Sprint(tooManyEvents)) {
		t.Error(data)
	}
	for range maxRate {
		if data := other.expect("client-x", "private-a"); data != "it" {
			t.Error(data)
		}
	}
	p.say(`{"event":"pusher:unsubscribe","data":{"channel":"news"}}`)
	p.say(`{"event":"pusher:ping"}`)
	p.expect("pusher:pong", "")
	answer, err := h.app.request(h.address, "GET", "/channels/news", "")
	if want := `200 {"occupied":false,"subscription_count":0}`; answer != want || err != nil {
		t.Errorf("%s, %v; want %s", answer, err, want)
	}
	for body, want := range map[string]string{
		`{`:                              "400 ",
		`{"name":"x","data":"y"}`:        "400 ",
		`{"name":"x","channel":"no no"}`: "400 ",
		`{"name":"x","channel":"a","data":"` + strings.Repeat("x", maxEvent+1) + `"}`:                             "413 ",
		`{"name":"x","channel":"private-a","data":"{\"a\":1}","socket_id":` + fmt.Sprintf("%q", p.socketID) + `}`: "200 {}",
	} {
		if answer, err := h.app.request(h.address, "POST", "/events", body); !strings.HasPrefix(answer, want) || err != nil {
			t.Errorf("%.100s: %s, %v", body, answer, err)
		}
	}
	if data := other.expect("x", "private-a"); data != `{"a":1}` {
		t.Error(data)
	}
	p.say(`{"event":"pusher:ping"}`)
	p.expect("pusher:pong", "") // and not the event that it has caused
}

// Somebody is there once, with however many connections, until the last one has gone.
func TestPresence(t *testing.T) {
	h := serve(t)
	watcher := h.connect()
	watcher.enter("presence-a", `{"user_id":"watcher"}`)
	watcher.expect("pusher_internal:subscription_succeeded", "presence-a")
	no := h.connect()
	no.enter("presence-a", `{"user_info":{}}`)
	no.expect("pusher:subscription_error", "presence-a")
	for round := range 20 {
		first, second := h.connect(), h.connect()
		for _, p := range []peer{first, second} {
			p.enter("presence-a", `{"user_id":7,"user_info":{"name":"Ada"}}`)
			want := `{"presence":{"count":2,"hash":{"7":{"name":"Ada"},"watcher":null},"ids":["7","watcher"]}}`
			if data := p.expect("pusher_internal:subscription_succeeded", "presence-a"); data != want {
				t.Fatalf("%s; want %s", data, want)
			}
		}
		if data := watcher.expect("pusher_internal:member_added", "presence-a"); data != `{"user_id":"7","user_info":{"name":"Ada"}}` {
			t.Fatal(data)
		}
		if first.Abort(); round%2 == 0 {
			second.say(`{"event":"pusher:unsubscribe","data":{"channel":"presence-a"}}`)
		} else {
			second.Abort()
		}
		if data := watcher.expect("pusher_internal:member_removed", "presence-a"); data != `{"user_id":"7"}` {
			t.Fatal(data)
		}
	}
}

func TestFlags(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":         {"-x"},
		"wants PUSHER_APP_SECRET": {"-listen", "127.0.0.1:0"},
		"must not be empty":       {"-key", ""},
		"-nats is for -listen":    {"-nats", "nats://127.0.0.1:4222"},
	}, "-listen", "-id", "-key", "-nats", "-sign")
	t.Setenv("PUSHER_APP_SECRET", "secret")
	exampletest.Flags(t, run, map[string][]string{
		"-nats: cluster/nats: URL 1": {"-listen", "127.0.0.1:0", "-nats", "127.0.0.1"},
		"connection refused":         {"-listen", "127.0.0.1:0", "-nats", "nats://127.0.0.1:1"},
	})
}
