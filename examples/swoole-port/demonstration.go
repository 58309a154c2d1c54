package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// demonstrate plays a sensor and a dashboard.
func demonstrate(
	co context.Context, show io.Writer, address, url string, mails <-chan string,
) error {
	board, err := websocket.Dial(co, url, websocket.ClientConfig{})
	if err != nil {
		return err
	}
	defer board.Abort()
	sensor := client.New(client.Config{EOF: "\r\n"})
	defer sensor.Close()
	if err := sensor.Connect(co, "tcp", address); err != nil {
		return err
	}
	p := &play{co: co, show: show, sensor: sensor, board: board}
	p.gets("The dashboard begins with", `{"readings":{}}`)
	p.says("boiler 71.5")
	p.gets("The dashboard gets", `{"reading":`)
	p.says("boiler hot")
	p.says("boiler 95.5")
	p.gets("The dashboard gets", `{"alarm":`)
	p.gets("The dashboard gets", `{"reading":`)
	if p.err == nil && mails != nil {
		mail, err := runtime.Await(co, func() (string, error) { return <-mails, nil })
		io.WriteString(show, mail)
		p.err = err
	}
	p.says("cellar 8")
	p.gets("The dashboard gets", `{"reading":`)
	p.gets("The timer tells the dashboard", `{"readings":{"boiler":"95.5","cellar"`)
	p.says("quit")
	if p.err == nil {
		p.err = board.Close(websocket.StatusNormal, "")
	}
	return p.err
}

// A play is a demonstration. After an error nothing more happens in it.
type play struct {
	co     context.Context
	show   io.Writer
	sensor *client.Client
	board  *websocket.Conn
	err    error
}

// says has the sensor say something, and shows the answer.
func (p *play) says(line string) {
	if p.err != nil {
		return
	}
	fmt.Fprintln(p.show, "sensor:", line)
	if _, p.err = p.sensor.Send(p.co, []byte(line+"\r\n")); p.err != nil {
		return
	}
	answer, err := p.sensor.Recv(p.co)
	fmt.Fprintln(p.show, "server:", strings.TrimSpace(string(answer)))
	p.err = err
}

// gets shows the dashboard's next message that begins so. The timer's come in between at any time.
func (p *play) gets(what, prefix string) {
	for p.err == nil {
		m, err := p.board.Recv(p.co)
		if p.err = err; err == nil && strings.HasPrefix(string(m.Data), prefix) {
			fmt.Fprintf(p.show, "%s %s\n", what, m.Data)
			return
		}
	}
}
