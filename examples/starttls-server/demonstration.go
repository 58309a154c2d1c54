package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"

	"github.com/whorl-go/whorl/client"
)

// demonstrate shows a dialogue, and an attack.
func demonstrate(co context.Context, show io.Writer, address string, config *tls.Config) error {
	fmt.Fprintln(show)
	c := client.New(client.Config{EOF: "\r\n", TLS: config})
	defer c.Close()
	if err := c.Connect(co, "tcp", address); err != nil {
		return err
	}
	d := dialogue{conn: c, show: show, how: "plain"}
	if err := d.hear(co); err != nil {
		return err
	}
	if err := d.say(co, "EHLO client.example", "MAIL FROM:<alice@example.com>", "STARTTLS"); err != nil {
		return err
	}
	if err := c.EnableSSL(co); err != nil {
		return err
	}
	d.how = "  TLS"
	if err := d.say(co, "MAIL FROM:<alice@example.com>", "EHLO client.example", "STARTTLS", "MAIL FROM:<alice@example.com>", "QUIT"); err != nil {
		return err
	}
	return attack(co, show, address)
}

// A dialogue prints what is said.
type dialogue struct {
	conn *client.Client
	show io.Writer
	how  string
}

// say sends commands, each after the reply to the one before it.
func (d *dialogue) say(co context.Context, commands ...string) error {
	for _, command := range commands {
		fmt.Fprintf(d.show, "%s  C: %s\n", d.how, command)
		if _, err := d.conn.Send(co, []byte(command+"\r\n")); err != nil {
			return err
		}
		if err := d.hear(co); err != nil {
			return err
		}
	}
	return nil
}

// hear receives a reply: lines that go on with "-" after the code, but for the last.
func (d *dialogue) hear(co context.Context) error {
	for {
		line, err := d.conn.Recv(co)
		if err != nil {
			return err
		}
		text := strings.TrimSuffix(string(line), "\r\n")
		fmt.Fprintf(d.show, "%s  S: %s\n", d.how, text)
		if len(text) < 4 || text[3] != '-' {
			return nil
		}
	}
}

// attack does what somebody on the wire could do to a client: it puts a command behind STARTTLS.
func attack(co context.Context, show io.Writer, address string) error {
	c := client.New(client.Config{EOF: "\r\n"})
	defer c.Close()
	if err := c.Connect(co, "tcp", address); err != nil {
		return err
	}
	if _, err := c.Recv(co); err != nil {
		return err
	}
	const both = "STARTTLS\r\nMAIL FROM:<mallory@example.com>\r\n"
	fmt.Fprintf(
		show,
		"\nSomebody puts a command behind STARTTLS, to have it taken for one over TLS:\nplain  C: %q\n",
		both,
	)
	if _, err := c.Send(co, []byte(both)); err != nil {
		return err
	}
	// Its 220 may arrive or be cut off with the connection. What must not come is an answer to the
	// second command.
	line, err := c.Recv(co)
	if err == nil && strings.HasPrefix(string(line), "220 ") {
		line, err = c.Recv(co)
	}
	if err == nil {
		return fmt.Errorf("the server goes on: %q", line)
	}
	fmt.Fprintln(show, "The server closes the connection.")
	return nil
}
