// Metrics shows the figures of a server to Prometheus.
//
//	go run ./examples/metrics
//
// starts an echo server and an HTTP server with its figures, has three clients connect, scrapes the
// figures once, and ends:
//
//	Echo on 127.0.0.1:41063, metrics on http://127.0.0.1:36717/metrics
//	3 clients have sent 2 lines each. 42 figures were scraped, among them:
//	whorl_server_connections{server="echo"} 3
//	whorl_server_connections_accepted_total{server="echo"} 3
//	whorl_server_received_bytes_total{server="echo"} 72
//	whorl_server_received_packets_total{server="echo"} 6
//	whorl_server_sent_bytes_total{server="echo"} 72
//	whorl_server_sent_packets_total{server="echo"} 6
//
// With -listen and -metrics it serves until it is told to end (SIGINT or SIGTERM):
//
//	go run ./examples/metrics -listen 127.0.0.1:7007 -metrics 127.0.0.1:9100
//	curl http://127.0.0.1:9100/metrics
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/metrics"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("metrics", run) }

// expose serves the metrics by package net/http, on goroutines of its own: a scrape costs the event
// loops nothing.
func expose(rt *runtime.Runtime, s *server.Server, address string) (*http.Server, net.Addr, error) {
	registry := prometheus.NewRegistry()
	for _, collector := range []prometheus.Collector{
		metrics.NewCollector(s, prometheus.Labels{"server": "echo"}),
		metrics.NewRuntimeCollector(rt, nil),
	} {
		if err := registry.Register(collector); err != nil {
			return nil, nil, err
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go web.Serve(listener)
	return web, listener.Addr(), nil
}

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("metrics", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 7007)
	web := flags.String("metrics", "127.0.0.1:0", "`address` to show the metrics on")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	var exposed *http.Server
	var url string
	defer func() {
		if exposed != nil {
			exposed.Close()
		}
	}()
	s := server.New(server.Config{Port: server.Port{EOF: "\n", MaxPacket: 64 << 10, Handle: echo}})
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: s,
		Begin: func(co context.Context, l *server.Listener) (string, error) {
			rt, err := runtime.From(co)
			if err != nil {
				return "", err
			}
			server, at, err := expose(rt, s, *web)
			if err != nil {
				return "", err
			}
			exposed, url = server, fmt.Sprintf("http://%v/metrics", at)
			return fmt.Sprintf("Echo on %v, metrics on %s\n", l.Addr(), url), nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, _ func()) error {
			return demonstrate(co, show, address, url)
		},
	}
	return example.Run(ctx, stdout)
}

func echo(ctx context.Context, c *server.Conn) {
	for {
		line, err := c.Recv(ctx)
		if err != nil {
			return
		}
		if _, err := c.Send(ctx, line); err != nil {
			return
		}
	}
}

// demonstrate has clients talk to the server, and scrapes its figures while they are connected.
func demonstrate(co context.Context, show io.Writer, address, url string) error {
	const clients, lines = 3, 2
	for range clients {
		c := client.New(client.Config{EOF: "\n"})
		defer c.Close()
		if err := c.Connect(co, "tcp", address); err != nil {
			return err
		}
		for range lines {
			if _, err := c.Send(co, []byte("hello world\n")); err != nil {
				return err
			}
			if _, err := c.Recv(co); err != nil {
				return err
			}
		}
	}
	// Package net/http blocks, so that is awaited.
	figures, err := runtime.Await(co, func() ([]string, error) { return scrape(url) })
	if err != nil {
		return err
	}
	fmt.Fprintf(
		show,
		"%d clients have sent %d lines each. %d figures were scraped, among them:\n",
		clients,
		lines,
		len(figures),
	)
	for _, figure := range figures {
		name, _, _ := strings.Cut(figure, "{")
		switch name {
		case "whorl_server_connections",
			"whorl_server_connections_accepted_total",
			"whorl_server_received_bytes_total",
			"whorl_server_received_packets_total",
			"whorl_server_sent_bytes_total",
			"whorl_server_sent_packets_total":
			fmt.Fprintln(show, figure)
		}
	}
	return nil
}

// scrape gets the figures as Prometheus does, and leaves out what is said about them.
func scrape(url string) (figures []string, err error) {
	web := http.Client{Timeout: 10 * time.Second}
	defer web.CloseIdleConnections()
	response, err := web.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			figures = append(figures, line)
		}
	}
	return figures, lines.Err()
}
