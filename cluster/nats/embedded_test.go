package nats_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

func TestAnEmbeddedServerListensOnlyIfAskedTo(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{})
	if s.URL() != "" || s.Inner().Addr() != nil {
		t.Errorf("it listens on %q", s.URL())
	}
	s = embed(t, nats.EmbeddedConfig{Listen: true})
	host, _, err := net.SplitHostPort(s.Inner().Addr().String())
	check(t, err)
	if host != "127.0.0.1" {
		t.Errorf("it listens on %q", host)
	}
}

func TestAnEmbeddedServerTakesOnlyWhoHasItsToken(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true})
	other := embed(t, nats.EmbeddedConfig{Listen: true})
	if token(s) == token(other) || len(token(s)) < 20 {
		t.Errorf("the tokens are %q and %q", token(s), token(other))
	}
	for _, url := range []string{
		"nats://" + s.Inner().Addr().String(),
		fmt.Sprintf("nats://%s@%v", token(other), s.Inner().Addr()),
	} {
		b, err := nats.Connect(url, nats.Config{})
		check(t, err)
		err = b.Start(t.Context(), &brokertest.Node{})
		if err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
			t.Errorf("error is %v", err)
		}
		if err != nil && strings.Contains(err.Error(), token(other)) {
			t.Errorf("it shows the token: %v", err)
		}
		check(t, b.Close(t.Context()))
	}
}

func token(s *nats.Server) string {
	before, _, _ := strings.Cut(strings.TrimPrefix(s.URL(), "nats://"), "@")
	return before
}

func TestWhatIsFatalToAnEmbeddedServerIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	for want, config := range map[string]nats.EmbeddedConfig{
		"address already in use": {Listen: true, Port: l.Addr().(*net.TCPAddr).Port},
		"not a directory":        {JetStream: filepath.Join(file, "store")},
		"EmbeddedConfig.Port":    {Listen: true, Port: 70000},
		"negative":               {MaxStore: -1},
	} {
		core, logged := observer.New(zap.ErrorLevel)
		config.Logger = zap.New(core)
		if _, err := nats.Embedded(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q; logged %v", err, want, logged.All())
		}
	}
}

func TestTheFolderOfAnEmbeddedServerIsOnlyForItsUser(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	check(t, os.MkdirAll(dir, 0o755))
	n, b := func() (*brokertest.Node, *nats.Broker) {
		s := embed(t, nats.EmbeddedConfig{JetStream: dir})
		b, err := s.Connect(keeping(nats.History{}))
		check(t, err)
		return brokertest.Start(t, b), b
	}()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	check(t, n.Subscribe("room.a"))
	got := publish(t, n, "room.a", 2)
	sinceIs(t, b, "room.a", got[0].At, 1, 1, nil)
}

func TestAnEmbeddedServerLogsThroughZapAndEndsWithoutLeavingAnythingBehind(t *testing.T) {
	others := goleak.IgnoreCurrent()
	core, logged := observer.New(zap.DebugLevel)
	for range 3 {
		s, err := nats.Embedded(nats.EmbeddedConfig{Listen: true, JetStream: t.TempDir(),
			Logger: zap.New(core)})
		check(t, err)
		b, err := s.Connect(keeping(nats.History{}))
		check(t, err)
		check(t, b.Start(t.Context(), &brokertest.Node{}))
		check(t, b.Close(t.Context()))
		stop(t, s)
		stop(t, s)
	}
	if err := goleak.Find(others); err != nil {
		t.Error(err)
	}
	levels := map[string]bool{}
	for _, e := range logged.All() {
		levels[e.Level.String()] = true
	}
	if !levels["info"] || !levels["debug"] {
		t.Errorf("logged is %v", levels)
	}
	if logged.FilterMessageSnippet("Server is ready").Len() != 3 {
		t.Errorf("it doesn't log that it is ready")
	}
}

func TestABrokerComesBackToAnEmbeddedServerInProcess(t *testing.T) {
	// The server isn't there any more: there is no other, and the Broker ends in order.
	s, err := nats.Embedded(nats.EmbeddedConfig{})
	check(t, err)
	b, err := s.Connect(impatient(nats.Config{}))
	check(t, err)
	n := brokertest.Start(t, b)
	brokertest.Join(n, "room.a", n)
	stop(t, s)
	until(t, "it is noticed", func() bool { return !b.Stats().Connected })
	check(t, n.Close(t.Context()))
}
