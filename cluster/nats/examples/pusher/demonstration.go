package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// demonstrate has some clients and a backend talk to the server.
func demonstrate(co context.Context, show io.Writer, address string, a app) error {
	p := &play{co: co, show: show, address: address, app: a}
	anna, bert := p.enter("anna"), p.enter("bert")
	anna.subscribes("news", "", "")
	anna.gets()
	anna.subscribes("presence-room", "demo:forged", `{"user_id":"anna"}`)
	anna.gets()
	for _, one := range []*person{anna, bert} {
		data := fmt.Sprintf(`{"user_id":%q}`, one.name)
		one.subscribes("presence-room", a.grant(one.socketID, "presence-room", data), data)
		one.gets()
	}
	anna.gets()
	headline := `{"name":"headline","channel":"news","data":"Whorl speaks Pusher"}`
	p.asks("The backend sends to news", a, http.MethodPost, "/events", headline)
	anna.gets()
	forger := a
	forger.secret = "guessed"
	p.asks("The backend sends with another secret", forger, http.MethodPost, "/events", headline)
	bert.sends("client-typing", "presence-room", `{}`)
	anna.gets()
	p.asks("The backend asks for presence-room", a, http.MethodGet, "/channels/presence-room", "")
	bert.goes()
	anna.gets()
	return p.err
}

// A play is a demonstration. After an error nothing more happens in it.
type play struct {
	co      context.Context
	show    io.Writer
	address string
	app     app
	err     error
}

type person struct {
	*play
	name, socketID string
	conn           *websocket.Conn
}

// enter has somebody connect.
func (p *play) enter(name string) *person {
	one := &person{play: p, name: name}
	if p.err == nil {
		url := fmt.Sprintf("ws://%s/app/%s?protocol=7&client=whorl&version=1", p.address, p.app.key)
		one.conn, p.err = websocket.Dial(p.co, url, websocket.ClientConfig{})
	}
	one.gets()
	return one
}

func (p *person) sends(event, channel, data string) {
	p.push(message{Event: event, Channel: channel, Data: json.RawMessage(data)})
	if p.err == nil {
		fmt.Fprintf(p.show, "%-5s sends %s\n", p.name, event)
	}
}

func (p *person) subscribes(channel, auth, channelData string) {
	data, _ := json.Marshal(map[string]string{
		"channel": channel, "auth": auth, "channel_data": channelData,
	})
	p.push(message{Event: "pusher:subscribe", Data: data})
}

func (p *person) push(m message) {
	if p.err == nil {
		_, p.err = p.conn.Push(encode(m), websocket.Text)
	}
}

func (p *person) goes() {
	if p.err == nil {
		p.err = p.conn.Close(websocket.StatusNormal, "")
		fmt.Fprintf(p.show, "%-5s goes\n", p.name)
	}
}

// gets shows the next message.
func (p *person) gets() {
	if p.err != nil {
		return
	}
	got, err := p.conn.Recv(p.co)
	if err != nil {
		p.err = fmt.Errorf("%s: %w", p.name, err)
		return
	}
	var m message
	json.Unmarshal(got.Data, &m)
	var text string // what of the data is told
	json.Unmarshal(m.Data, &text)
	var data struct {
		SocketID string `json:"socket_id"`
		UserID   string `json:"user_id"`
		Error    string `json:"error"`
		Presence struct{ IDs []string }
	}
	if json.Unmarshal([]byte(text), &data) == nil {
		text = data.UserID + data.Error
		if len(data.Presence.IDs) > 0 {
			text = "here are " + strings.Join(data.Presence.IDs, ", ")
		}
	}
	if data.SocketID != "" {
		p.socketID = data.SocketID
	}
	line := m.Event
	if m.Channel != "" {
		line += ", " + m.Channel
	}
	if m.UserID != "" {
		line += ", from " + m.UserID
	}
	if text != "" {
		line += ": " + text
	}
	fmt.Fprintf(p.show, "%-5s gets: %s\n", p.name, line)
}

// asks has the app's backend make a request.
func (p *play) asks(what string, a app, method, path, body string) {
	if p.err != nil {
		return
	}
	// net/http's client waits on Go channels, which must not be done on a loop.
	answer, err := runtime.Await(p.co, func() (string, error) {
		return a.request(p.address, method, path, body)
	})
	if p.err = err; err == nil {
		fmt.Fprintf(p.show, "%s: %s\n", what, answer)
	}
}

// request makes a signed request, as Pusher's libraries for backends do.
func (a app) request(address, method, path, body string) (answer string, err error) {
	path = "/apps/" + a.id + path
	query := url.Values{
		"auth_key": {a.key}, "auth_version": {"1.0"},
		"auth_timestamp": {strconv.FormatInt(time.Now().Unix(), 10)},
	}
	if body != "" {
		sum := md5.Sum([]byte(body))
		query.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	query.Set("auth_signature", a.signRequest(method, path, query))
	url := "http://" + address + path + "?" + query.Encode()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, strings.TrimSpace(string(text))), err
}
