//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/whorl-go/whorl/client"
	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/websocket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

var addresses = regexp.MustCompile(`^(\S+), dashboard on http://(\S+)$`)

// serve runs the service with flags, and has fn talk to it.
func serve(
	t *testing.T, args []string, fn func(ctx context.Context, sensors, dashboard string) error,
) (printed string) {
	t.Helper()
	first, stop := exampletest.Serve(t, run, "Sensors on ", args...)
	found := addresses.FindStringSubmatch(first)
	if found == nil {
		t.Fatalf("printed %q", first)
	}
	err := runtime.Run(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, exampletest.Patience)
		defer cancel()
		return fn(ctx, found[1], found[2])
	})
	if err != nil {
		t.Error(err)
	}
	return stop()
}

// say has a sensor say something, and returns the answer.
func say(ctx context.Context, sensors string, lines ...string) (answers string, err error) {
	c := client.New(client.Config{EOF: "\r\n"})
	defer c.Close()
	if err := c.Connect(ctx, "tcp", sensors); err != nil {
		return "", err
	}
	for _, line := range lines {
		if _, err := c.Send(ctx, []byte(line+"\r\n")); err != nil {
			return answers, err
		}
		answer, err := c.Recv(ctx)
		if err != nil {
			return answers, err
		}
		answers += strings.TrimSuffix(string(answer), "\r\n") + "|"
	}
	return answers, nil
}

// until receives until a message begins so.
func until(ctx context.Context, c *websocket.Conn, prefix string) (string, error) {
	for {
		m, err := c.Recv(ctx)
		if err != nil || strings.HasPrefix(string(m.Data), prefix) {
			return string(m.Data), err
		}
	}
}

// alarms serves with flags, has a sensor say each value of it, or nothing, and compares the alarms
// that come on the dashboard after that. Each has to be in one mail.
func alarms(t *testing.T, args []string, steps []step) {
	t.Helper()
	printed := serve(t, args, func(ctx context.Context, sensors, dashboard string) error {
		c, err := websocket.Dial(ctx, "ws://"+dashboard, websocket.ClientConfig{})
		if err != nil {
			return err
		}
		defer c.Abort()
		for _, s := range steps {
			if _, err := say(ctx, sensors, s.say); err != nil {
				return err
			}
			if s.alarm == "" {
				continue
			}
			got, err := until(ctx, c, `{"alarm":`)
			if got != `{"alarm":"`+s.alarm+`"}` || err != nil {
				return fmt.Errorf("%s: %s, %w; want %s", s.say, got, err, s.alarm)
			}
		}
		return nil
	})
	mails := 0
	for _, s := range steps {
		if s.alarm == "" {
			continue
		}
		mails++
		if !strings.Contains(printed, fmt.Sprintf("gets %q, from alice", "Alarm: "+s.alarm)) {
			t.Errorf("there is no mail %q in\n%s", s.alarm, printed)
		}
	}
	if strings.Count(printed, "bob@example.com gets") != mails {
		t.Errorf("there are not %d mails in\n%s", mails, printed)
	}
}

type step struct{ say, alarm string }

func TestAReadingThatBecomesTooHighIsAnAlarm(t *testing.T) {
	alarms(t, []string{"-limit", "50", "-silence", "1h"}, []step{
		{"a 51", "a is at 51, above 50"},
		{"a 52", ""},
		{"a 50", ""},
		{"a 53", "a is at 53, above 50"},
	})
}

func TestASensorThatSaysNoMoreIsAnAlarm(t *testing.T) {
	alarms(t, []string{"-every", "5ms", "-silence", "20ms"}, []step{
		{"b 1", "b is silent"},
		{"b 1", "b is silent"},
	})
}

func TestWhatMakesNoSenseIsAnError(t *testing.T) {
	serve(t, nil, func(ctx context.Context, sensors, _ string) error {
		for _, line := range []string{
			"", "a", "a b", "a 1 2", "A 1", "a 1e9", "a 1\r", "a 1\nSubject: x", "a 12345678", "a NaN",
		} {
			answers, err := say(ctx, sensors, line, "a 1", "quit")
			if !strings.HasPrefix(answers, "error: send") || !strings.HasSuffix(answers, "|ok|bye|") {
				return fmt.Errorf("%q is answered %q, %w", line, answers, err)
			}
		}
		return nil
	})
}

// Without Redis a reading is refused, but its alarm is given.
func TestRedisIsGone(t *testing.T) {
	cache := miniredis.NewMiniRedis()
	if err := cache.Start(); err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	args := []string{"-redis", cache.Addr()}
	printed := serve(t, args, func(ctx context.Context, sensors, _ string) error {
		answers, err := say(ctx, sensors, "a 1")
		if answers != "ok|" || err != nil || cache.HGet("watch:readings", "a") != "1" {
			return fmt.Errorf("with Redis: %q, %w", answers, err)
		}
		cache.SetError("gone")
		if answers, err = say(ctx, sensors, "a 91"); answers != "error: try again|" || err != nil {
			return fmt.Errorf("without: %q, %w", answers, err)
		}
		cache.SetError("")
		if answers, err = say(ctx, sensors, "a 92"); answers != "ok|" || err != nil {
			return fmt.Errorf("with it again: %q, %w", answers, err)
		}
		return nil
	})
	if !strings.Contains(printed, "Alarm: a is at 91, above 90") || strings.Contains(printed, "92") {
		t.Errorf("the mails are\n%s", printed)
	}
}

func TestThereIsABoundOfSensors(t *testing.T) {
	w := &watch{sensors: make(map[string]sensor)}
	for i := range mostSensors {
		if _, ok := w.note(fmt.Sprint(i), "1"); !ok {
			t.Fatal(i)
		}
	}
	if _, ok := w.note("another", "1"); ok {
		t.Error("one more was taken")
	}
	if _, ok := w.note("0", "1"); !ok {
		t.Error("one that is known wasn't")
	}
}

func TestThePageIsServed(t *testing.T) {
	serve(t, nil, func(ctx context.Context, _, dashboard string) error {
		_, err := runtime.Await(ctx, func() (none struct{}, err error) {
			transport := &http.Transport{DisableKeepAlives: true}
			response, err := (&http.Client{Transport: transport}).Get("http://" + dashboard)
			if err != nil {
				return none, err
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if !bytes.Equal(got, page) || err != nil {
				return none, fmt.Errorf("%s, %w", got, err)
			}
			return none, nil
		})
		return err
	})
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	exampletest.Flags(t, run, map[string][]string{
		"are for -mail":      {"-user", "x"},
		"belong together":    {"-mail", "127.0.0.1:1", "-user", "x"},
		"no such file":       {"-mail", "127.0.0.1:1", "-user", "x", "-password-file", none + "x"},
		"has no certificate": {"-mail", "127.0.0.1:1", "-ca", none},
		"above 0":            {"-every", "0s"},
		"nowhere":            {"-listen", "127.0.0.1:0", "-dashboard", "nowhere"},
	}, "-listen", "-dashboard", "-redis", "-mail", "-user", "-password-file", "-ca", "-from", "-to")
}
