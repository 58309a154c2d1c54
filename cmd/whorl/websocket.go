package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/internal/bench"
)

func webSocketCommand(args []string) *cobra.Command {
	group := &cobra.Command{
		Use:   "websocket",
		Short: "WebSocket servers: echo, idle connections, broadcasts",
		Long: `Measures a WebSocket server, ws or wss. Messages are binary, and not compressed. The
time up to the response to the HTTP request is the phase "upgrade".
"whorl bench serve --role websocket" and "--role websocket-broadcast" are the other side.`,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is no mode of bench websocket", args[0])
			}
			return command.Help()
		},
	}
	for _, m := range []mode{
		{
			bench.WebSocketEcho, "round trips per second",
			"Sends a message and waits until it comes back, again and again.",
			(*generator).webSocketFlags,
		},
		{
			bench.WebSocketIdle, "opens connections and holds them",
			"Opens -n connections, -c at a time, and holds them for -d: idle, or pinged. A " +
				"coroutine waits on each, and answers the server's pings.",
			(*generator).webSocketIdleFlags,
		},
		{
			bench.WebSocketBroadcast, "messages that go to all connections",
			"Opens -c connections. The first one sends a message, which the server is to send to " +
				"all of them, itself included; an operation ends with the last delivery, and the " +
				"phase \"delivery\" has each of them.",
			(*generator).webSocketFlags,
		},
	} {
		name := strings.TrimPrefix(string(m.mode), "websocket-")
		group.AddCommand(m.command(name+" URL", args))
	}
	return group
}

// webSocket reports whether it is one of the WebSocket modes.
func (g *generator) webSocket() bool {
	return strings.HasPrefix(string(g.options.Mode), "websocket-")
}

// holds reports whether connections are opened to be held.
func (g *generator) holds() bool {
	return g.options.Mode == bench.Connections || g.options.Mode == bench.WebSocketIdle
}

func (g *generator) webSocketFlags(command *cobra.Command) {
	f := command.Flags()
	f.IntVar(&g.options.Size, "size", 64, "of a message, in bytes")
	g.requestFlags(command)
}

func (g *generator) webSocketIdleFlags(command *cobra.Command) {
	g.options.Size, g.options.Hold = 8, bench.HoldCoroutine
	g.heartbeatFlags(command, "ping the server on each connection so often (default never)")
	g.requestFlags(command)
}

func (g *generator) requestFlags(command *cobra.Command) {
	command.Flags().StringArrayVar(&g.header, "header", nil,
		headerUsage)
	g.options.WebSocket = new(bench.WebSocket)
	command.Flags().StringSliceVar(&g.options.WebSocket.Subprotocols, "subprotocol", nil,
		subprotocolUsage)
}

// completeWebSocket makes of the URL where to connect to, and whether by TLS.
func (g *generator) completeWebSocket(target string) (secure bool, err error) {
	u, err := url.Parse(target)
	if err != nil {
		return false, err
	}
	port := map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	switch {
	case port == "" || u.Hostname() == "":
		return false, fmt.Errorf("%q: want a URL of ws or wss, such as ws://localhost:9501/",
			target)
	case u.Fragment != "" || u.User != nil:
		return false, errors.New("a WebSocket's URL has no fragment, and credentials are a " +
			"--header")
	case u.Port() != "":
		port = u.Port()
	}
	if u.Path == "" {
		u.Path = "/"
	}
	o := &g.options
	o.Target, o.WebSocket.URL = net.JoinHostPort(u.Hostname(), port), u
	o.WebSocket.Header, err = parseHeader(g.header)
	return u.Scheme == "wss", err
}

// What --header and --subprotocol are for.
const (
	headerUsage      = `a header of the request, "Name: value"; may be given again`
	subprotocolUsage = "subprotocols to offer"
)

// parseHeader reads what --header was given.
func parseHeader(lines []string) (http.Header, error) {
	header := http.Header{}
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" {
			return nil, fmt.Errorf("--header %q: want Name: value", line)
		}
		header.Add(name, strings.TrimSpace(value))
	}
	return header, nil
}
