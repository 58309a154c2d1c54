package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

// A node that has said nothing for nodeTimeout has no members any more.
const (
	heartbeat   = 500 * time.Millisecond
	nodeTimeout = 5 * time.Second
)

// A node is one of the servers of the chat. The hub knows the members of all.
type node struct {
	hub    *cluster.Hub
	server *websocket.Server
}

// serveNode serves until ctx is done, or a signal comes.
func serveNode(
	ctx context.Context, stdout io.Writer, name, listen, urls string, history bool,
) error {
	config := nats.Config{Name: "chat " + name, Prefix: "chat"}
	if history {
		config.History = &nats.History{MaxMessages: 200, MaxAge: time.Hour, MaxBytes: 64 << 20}
	}
	broker, err := nats.Connect(urls, config)
	if err != nil {
		return program.Usage("-nats: %w", err)
	}
	if err := cluster.CheckName(name); err != nil {
		return program.Usage("-node: %w", err)
	}
	n := newNode(name, broker)
	example := serving.Example[*server.Listener]{
		Listen: listen, Network: "tcp", Server: n.server,
		Begin: func(co context.Context, l *server.Listener) (string, error) {
			// The hub ends with the runtime: then the others are told that its members are gone.
			if err := n.hub.Start(co); err != nil {
				return "", err
			}
			return fmt.Sprintf("%s on http://%v/\n", name, l.Addr()), nil
		},
	}
	return example.Run(ctx, stdout)
}

func newNode(name string, broker cluster.Broker) *node {
	n := new(node)
	n.hub = cluster.New(cluster.Config{
		Broker:      broker,
		Node:        name,
		Encode:      encode,
		OnPresence:  n.presence,
		OnGap:       n.gap,
		Heartbeat:   heartbeat,
		NodeTimeout: nodeTimeout,
		MaxRooms:    maxRooms,
		MaxListed:   maxListed,
	})
	n.server = websocket.NewServer(websocket.Config{
		OnHandshake: handshake,
		Handle:      n.serve,
		OnRequest:   pages(),
		Options: websocket.Options{
			Compression:  websocket.Compression{Enabled: true},
			MaxMessage:   4 << 10,
			MaxQueue:     256 << 10, // who reads more slowly than the others talk is sent away
			PingInterval: 20 * time.Second,
			PongTimeout:  10 * time.Second,
		},
		Server: server.Config{MaxPerAddress: 100},
	})
	return n
}

// handshake lets everybody in who has a name.
func handshake(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	switch {
	case r.URL.Path != "/ws":
		http.NotFound(w, r)
	case cluster.CheckName(name) != nil || utf8.RuneCountInString(name) > maxName:
		http.Error(w, "this is no name", http.StatusBadRequest)
	default:
		websocket.ConnOf(r).SetValue(name)
		w.WriteHeader(http.StatusSwitchingProtocols)
	}
}

//go:embed page
var files embed.FS

// pages has the page.
func pages() http.Handler {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // it is compiled in
	}
	server := http.FileServerFS(page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		server.ServeHTTP(w, r)
	})
}
