//go:build linux && interop

package dropin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
)

// go-redis tells standard error of each connection that is cut.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// redisOptions are those of go-redis over the Dialer. A Dialer of one's own has to speak TLS
// itself.
func redisOptions(addr string, secure *tls.Config) *redis.Options {
	return &redis.Options{
		Addr:                  addr,
		ContextTimeoutEnabled: true, // otherwise go-redis heeds its own time-outs only
		MaxRetries:            -1,   // a test wants to see the error
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(hooks.Dialer).DialContext(ctx, network, addr)
			if err != nil || secure == nil {
				return conn, err
			}
			over := tls.Client(conn, secure)
			if err := over.HandshakeContext(ctx); err != nil {
				conn.Close()
				return nil, err
			}
			return over, nil
		},
	}
}

// openRedis makes a client of an empty Redis. end closes it; over TLS it takes leave of the server,
// for which the runtime has to be there.
func openRedis(ctx context.Context, t testing.TB, options *redis.Options) (c *redis.Client, end func()) {
	t.Helper()
	c = redis.NewClient(options)
	check(t, await(ctx, func() error { return c.FlushDB(ctx).Err() }))
	return c, func() { check(t, await(ctx, c.Close)) }
}

func TestRedis(t *testing.T) {
	s := servers.StartRedis(t)
	for name, test := range map[string]func(context.Context, *testing.T, *servers.Server){
		"commands":                    testRedisCommands,
		"TLS":                         testRedisTLS,
		"publish and subscribe":       testRedisPublish,
		"commands end with a context": testRedisContext,
		"connections are cut":         testRedisCut,
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(ctx, t, s) })
		})
	}
	t.Run("forgotten Await", func(t *testing.T) { testRedisForgottenAwait(t, s) })
}

// Single commands and pipelines, from many callers that share few connections. go-redis waits for
// these on Go channels, so coroutines call it by Await.
func testRedisCommands(ctx context.Context, t *testing.T, s *servers.Server) {
	options := redisOptions(s.Addr, nil)
	options.PoolSize = 3
	c, end := openRedis(ctx, t, options)
	defer end()
	check(t, incrementAll(ctx, c))
}

func testRedisTLS(ctx context.Context, t *testing.T, s *servers.Server) {
	c, end := openRedis(ctx, t, redisOptions(s.TLSAddr, s.TLS))
	defer end()
	check(t, incrementAll(ctx, c))
	stranger := redis.NewClient(redisOptions(s.TLSAddr, &tls.Config{ServerName: "localhost"}))
	err := await(ctx, func() error { return stranger.Ping(ctx).Err() })
	wantText(t, "nobody trusts the authority", fmt.Sprint(err), "unknown authority")
	check(t, await(ctx, stranger.Close))
}

// incrementAll has many increment the same keys.
func incrementAll(ctx context.Context, c *redis.Client) error {
	const callers, each = 10, 20
	err := many(ctx, callers, func(ctx context.Context, i int) error {
		return await(ctx, func() error {
			for range each {
				if err := c.Incr(ctx, "single").Err(); err != nil {
					return err
				}
			}
			_, err := c.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for range each {
					pipe.Incr(ctx, "piped")
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, key := range []string{"single", "piped"} {
		n, err := runtime.Await(ctx, func() (int, error) { return c.Get(ctx, key).Int() })
		if err != nil || n != callers*each {
			return fmt.Errorf("%s is %d, %w; want %d", key, n, err, callers*each)
		}
	}
	return nil
}

func testRedisPublish(ctx context.Context, t *testing.T, s *servers.Server) {
	c, end := openRedis(ctx, t, redisOptions(s.Addr, nil))
	defer end()
	got, err := runtime.Await(ctx, func() (got []string, err error) {
		topic := c.Subscribe(ctx, "topic")
		defer topic.Close()
		if _, err := topic.Receive(ctx); err != nil { // the confirmation
			return nil, err
		}
		for n := range 3 {
			if err := c.Publish(ctx, "topic", n).Err(); err != nil {
				return nil, err
			}
		}
		for range 3 {
			select {
			case message := <-topic.Channel():
				got = append(got, message.Payload)
			case <-time.After(patience):
				return got, errors.New("a message is missing")
			}
		}
		return got, nil
	})
	if err != nil || fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("got %v, %v", got, err)
	}
}

// blockedPop begins to pop from an empty list, and returns when the server waits for it. The
// function that it returns waits for its end.
func blockedPop(ctx, until context.Context, t *testing.T, c, observer *redis.Client) (wait func() error) {
	t.Helper()
	wait = beside(ctx, t, func(ctx context.Context) error {
		return await(context.WithoutCancel(ctx), func() error { return c.BLPop(until, 0, "empty").Err() })
	})
	awaitUntil(ctx, t, "the server waits", func() bool {
		info, err := runtime.Await(ctx, func() (string, error) {
			return observer.InfoMap(ctx, "clients").Item("Clients", "blocked_clients"), nil
		})
		check(t, err)
		return info == "1"
	})
	return wait
}

func testRedisContext(ctx context.Context, t *testing.T, s *servers.Server) {
	options := redisOptions(s.Addr, nil)
	c, end := openRedis(ctx, t, options)
	defer end()
	late, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	// The deadline becomes one of the connection.
	err := await(context.WithoutCancel(ctx), func() error { return c.BLPop(late, 0, "empty").Err() })
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("late: error is %v", err)
	}
	check(t, await(ctx, func() error { return c.Ping(ctx).Err() }))
}

func testRedisCut(ctx context.Context, t *testing.T, s *servers.Server) {
	p := proxy(t, s.Addr)
	c, end := openRedis(ctx, t, redisOptions(p.Addr(), nil))
	defer end()
	observer, endObserver := openRedis(ctx, t, redisOptions(s.Addr, nil))
	defer endObserver()
	over := blockedPop(ctx, ctx, t, c, observer)
	p.CutAll()
	if err := over(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("cut: error is %v", err)
	}
	check(t, await(ctx, func() error { return c.RPush(ctx, "empty", 1).Err() }))
}

// Who waits for a connection of a full pool without Await holds the loop.
func testRedisForgottenAwait(t *testing.T, s *servers.Server) {
	forgotten(t, "go-redis", func(ctx context.Context, t *testing.T) func(ctx context.Context) error {
		options := redisOptions(s.Addr, nil)
		options.PoolSize, options.PoolTimeout = 1, 2*patience
		c, end := openRedis(ctx, t, options)
		runtime.Defer(ctx, func(context.Context) { end() })
		conn := c.Conn()
		runtime.Defer(ctx, func(ctx context.Context) { check(t, await(ctx, conn.Close)) })
		check(t, await(ctx, func() error { return conn.Ping(ctx).Err() }))
		return func(ctx context.Context) error { return c.Ping(ctx).Err() }
	})
}
