//go:build linux

package stream_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// Where no runtime is, streams live on the default one of hooks, with all that they can do.
func TestStreamsWithoutARuntime(t *testing.T) {
	guard(t)
	ctx := context.Background()
	cert, err := devca.SelfSigned(devca.Request{Names: []string{"127.0.0.1"}})
	check(t, err)
	file := t.TempDir() + "/all.pem"
	check(t, devca.WritePEM(cert, file, file))
	ssl := map[string]any{"local_cert": file}
	options, err := stream.ContextCreate(map[string]map[string]any{"ssl": ssl})
	check(t, err)
	server, err := stream.SocketServer(ctx, "tcp://127.0.0.1:0", stream.WithContext(options))
	check(t, err)
	trusting, err := stream.ContextCreate(map[string]map[string]any{"ssl": {"cafile": file}})
	check(t, err)
	client, err := stream.SocketClient(ctx, "tcp://"+server.GetName(false), stream.WithContext(trusting))
	check(t, err)
	accepted, err := stream.Accept(ctx, server, patience)
	check(t, err)
	secured := make(chan error, 1)
	go func() {
		_, err := accepted.EnableCrypto(ctx, true, 0)
		secured <- err
	}()
	_, err = client.EnableCrypto(ctx, true, 0)
	check(t, err)
	check(t, <-secured)
	_, err = client.Write(ctx, []byte("line\n"))
	check(t, err)
	ready, err := stream.Select(ctx, map[int]*stream.Stream{1: accepted}, nil, nil, patience)
	if err != nil || ready.Count() != 1 {
		t.Errorf("%v, %v", ready, err)
	}
	if line, err := accepted.Gets(ctx, 100); line != "line\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	a, b, err := stream.SocketPair(ctx, "unix")
	check(t, err)
	for _, s := range []*stream.Stream{server, client, accepted, a, b} {
		check(t, s.Close())
	}
	rt, err := hooks.Default()
	check(t, err)
	shutdown(t, rt)
}

// Where several runtimes are, too: a stream of whoever has none lives on the default one, and what
// it accepts there with it.
func TestStreamsWithoutARuntimeBesideOthers(t *testing.T) {
	guard(t)
	rt, err := hooks.Default()
	check(t, err)
	defer shutdown(t, rt)
	_ = start(t) // another one, so that there is more than one to choose from
	ctx := context.Background()
	_, err = stream.SocketClient(ctx, "tcp://127.0.0.1:1")
	wantError(t, "nobody listens", err, syscall.ECONNREFUSED)
	listener, err := stream.SocketServer(ctx, "tls://127.0.0.1:0", serverSSL(t))
	check(t, err)
	url := "tcp://" + listener.GetName(false)
	client, err := stream.SocketClient(ctx, url, clientSSL(t))
	check(t, err)
	server, err := stream.Accept(ctx, listener, patience)
	check(t, err)
	done, err := client.EnableCrypto(ctx, true, stream.CryptoTLSClient)
	if !done || err != nil {
		t.Errorf("EnableCrypto: %v, %v", done, err)
	}
	write(ctx, t, client, "hello")
	readFull(ctx, t, server, "hello")
	a, b, err := stream.SocketPair(ctx, "unix")
	check(t, err)
	later, err := stream.SocketClient(ctx, url, stream.WithAsyncConnect())
	check(t, err)
	for _, s := range []*stream.Stream{client, server, listener, a, b, later} {
		check(t, s.Close())
	}
}
