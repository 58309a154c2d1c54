package nats_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/brokertest"
	"github.com/whorl-go/whorl/cluster/nats"
)

const patience = brokertest.Patience

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		serve()
		return
	}
	goleak.VerifyTestMain(m)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for what something else brings about.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
	}
}

// logger logs warnings to the test.
func logger(t testing.TB) *zap.Logger {
	return zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
}

// embed starts a server, and ends it with the test.
func embed(t testing.TB, config nats.EmbeddedConfig) *nats.Server {
	t.Helper()
	s, err := nats.Embedded(config)
	check(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *nats.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(t, s.Close(ctx))
}

// impatient are times that make a test of connections short.
func impatient(c nats.Config) nats.Config {
	c.ReconnectWait = 20 * time.Millisecond
	return c
}

// connect starts a Broker on a URL.
func connect(t testing.TB, url string, c nats.Config) (*brokertest.Node, *nats.Broker) {
	t.Helper()
	b, err := nats.Connect(url, c)
	check(t, err)
	return brokertest.Start(t, b), b
}

func TestBrokersInProcessAreBrokers(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Logger: logger(t)})
	brokertest.Test(t, func(t *testing.T) []cluster.Broker {
		return brokers(t, 2, func() (*nats.Broker, error) {
			return s.Connect(nats.Config{Prefix: prefix(t)})
		})
	})
}

func TestBrokersOnLoopbackAreBrokers(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true, Logger: logger(t)})
	brokertest.Test(t, func(t *testing.T) []cluster.Broker {
		return brokers(t, 3, func() (*nats.Broker, error) {
			return nats.Connect(s.URL(), nats.Config{Prefix: prefix(t)})
		})
	})
}

func TestBrokersWithAHistoryAreBrokers(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true, JetStream: t.TempDir(), Logger: logger(t)})
	brokertest.Test(t, func(t *testing.T) []cluster.Broker {
		return brokers(t, 2, func() (*nats.Broker, error) {
			return nats.Connect(s.URL(), nats.Config{Prefix: prefix(t),
				History: &nats.History{MaxMessages: 50, MaxBytes: 16 << 20}})
		})
	})
}

func brokers(t *testing.T, n int, one func() (*nats.Broker, error)) (all []cluster.Broker) {
	t.Helper()
	for range n {
		b, err := one()
		check(t, err)
		all = append(all, b)
	}
	return all
}

// prefix is of subjects that only this test uses.
func prefix(t testing.TB) string {
	clean := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}
	name := t.Name()
	name = strings.Map(clean, name[max(0, len(name)-50):])
	return strings.Trim(name, "-")
}

func TestWhatIsWrongWithAConfigIsSaid(t *testing.T) {
	const secret = "s3cret"
	for _, c := range []struct {
		urls   string
		config nats.Config
		want   string
	}{
		{"http://host:1", nats.Config{}, `URL 1: it begins with "http"`},
		{"nats://a:1, ws://u:" + secret + "@host", nats.Config{}, `URL 2: it begins with "ws"`},
		{"host:4222", nats.Config{}, "URL 1: it is not of the form"},
		{"", nats.Config{}, "URL 1"},
		{"nats://a:1,", nats.Config{}, "URL 2"},
		{"nats://u:" + secret + "/x@host:4222", nats.Config{}, "URL 1: it is not of the form"},
		{"nats://:4222", nats.Config{}, "no host"},
		{"nats://host/path", nats.Config{}, "behind the host"},
		{"nats://host", nats.Config{Prefix: "a b"}, "prefix"},
		{"nats://host", nats.Config{Prefix: "a..b"}, "prefix"},
		{"nats://host", nats.Config{Prefix: "_INBOX"}, "prefix"},
		{"nats://host", nats.Config{Prefix: "a.>"}, "prefix"},
		{"nats://host", nats.Config{Prefix: strings.Repeat("a", 65)}, "prefix"},
		{"nats://host", nats.Config{Credentials: "/none.creds"}, "/none.creds"},
		{"nats://host", nats.Config{NKey: "/none.nk"}, "/none.nk"},
		{"nats://host", nats.Config{CA: "/none.pem"}, "/none.pem"},
		{"nats://host", nats.Config{User: "u", Token: secret}, "only one of"},
		{"nats://host", nats.Config{PingInterval: -1}, "PingInterval"},
		{"nats://host", nats.Config{History: &nats.History{MaxMessages: -1}}, "negative"},
	} {
		_, err := nats.Connect(c.urls, c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.urls, err, c.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error shows a secret: %v", c.urls, err)
		}
	}
}

func TestWhichServersCantBeConnectedToIsSaid(t *testing.T) {
	s := embed(t, nats.EmbeddedConfig{Listen: true, Logger: logger(t)})
	_, port, _ := strings.Cut(strings.SplitN(s.URL(), "@", 2)[1], ":")
	const secret = "s3cret"
	wrong := fmt.Sprintf("nats://%s@127.0.0.1:%s", secret, port)
	nobody := "nats://u:" + secret + "@127.0.0.1:1"
	b, err := nats.Connect(wrong+","+nobody, nats.Config{ConnectTimeout: patience})
	check(t, err)
	receiver := brokertest.Node{}
	err = b.Start(t.Context(), &receiver)
	for _, want := range []string{"nats://127.0.0.1:" + port + ": nats: Authorization Violation",
		"nats://127.0.0.1:1: ", "refused"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows a secret: %v", err)
	}
	if err := b.Start(t.Context(), &receiver); err == nil {
		t.Error("it starts the second time")
	}
	check(t, b.Close(t.Context()))
	if err := b.Start(t.Context(), &receiver); !errors.Is(err, cluster.ErrDisconnected) {
		t.Errorf("Start of a closed Broker: %v", err)
	}
}
