//go:build linux && interop

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

// The service with a real Redis and a real Postfix.
func TestRealServers(t *testing.T) {
	cache, postfix := servers.StartRedis(t), servers.NewPostfix(t, "smtpd_tls_received_header = yes\n")
	_, port, _ := strings.Cut(postfix.Start("")[0], ":")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, postfix.CA.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-redis", cache.Addr, "-mail", "localhost:" + port, "-ca", ca, "-to", "bob@mail.test",
	}
	serve(t, args, func(ctx context.Context, sensors, dashboard string) error {
		c, err := websocket.Dial(ctx, "ws://"+dashboard, websocket.ClientConfig{})
		if err != nil {
			return err
		}
		defer c.Abort()
		if _, err := say(ctx, sensors, "boiler 95.5"); err != nil {
			return err
		}
		if _, err := until(ctx, c, `{"alarm":"boiler is at 95.5, above 90"}`); err != nil {
			return err
		}
		_, err = runtime.Await(ctx, func() (none struct{}, err error) {
			db := redis.NewClient(&redis.Options{Addr: cache.Addr})
			defer db.Close()
			value, err := db.HGet(ctx, "watch:readings", "boiler").Result()
			if value != "95.5" || err != nil {
				return none, fmt.Errorf("Redis has %q, %w", value, err)
			}
			return none, nil
		})
		return err
	})
	// The service has ended, so Postfix has the mail. It delivers when it likes.
	leaktest.Until(t, "the mail is delivered", func() bool {
		box := postfix.Mailbox()
		return strings.Contains(box, "Subject: Alarm: boiler is at 95.5, above 90\n") &&
			strings.Contains(box, "using TLSv1.3")
	})
}
