//go:build linux && interop

package dropin

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/runtimetest"
)

// wanted is how many requests wrk makes at least of each server.
const wanted = 100_000

// net/http's server over hooks.Listen and over net.Listen, each under the load of wrk. No request
// may fail. How fast they are is printed only: the machine has other things to do, too.
func TestWrk(t *testing.T) {
	program, err := exec.LookPath("wrk")
	check(t, err)
	guard(t)
	ctx := runtimetest.Start(t, watched(t, stall)...).Context()
	hooked, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
	check(t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	rates := map[string]*rate{"hooks.Listen": load(t, program, hooked), "net.Listen": load(t, program, plain)}
	for rates["hooks.Listen"].requests < wanted || rates["net.Listen"].requests < wanted { // in turns, as the machine isn't always as fast
		for _, r := range rates {
			r.turn(t)
		}
	}
	for name, r := range rates {
		check(t, r.stop())
		t.Logf("%s: %d requests, none failed, %.0f a second", name, r.requests, r.perSecond())
	}
	t.Logf("hooks/net: %.2f", rates["hooks.Listen"].perSecond()/rates["net.Listen"].perSecond())
}

// A rate is what wrk has measured of a server.
type rate struct {
	program  string
	addr     string
	requests int
	seconds  float64
	stop     func() error
}

func (r *rate) perSecond() float64 { return float64(r.requests) / r.seconds }

func load(t *testing.T, program string, l net.Listener) *rate {
	server := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "Hello, World!") }),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return &rate{program: program, addr: l.Addr().String(), stop: func() error {
		if err := server.Close(); err != nil {
			return err
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}
}

var wrkSummary = regexp.MustCompile(`(\d+) requests in ([0-9.]+)(s|m),`)

// turn has wrk make requests for a second, from 64 connections.
func (r *rate) turn(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.program, "-t", "1", "-c", "64", "-d", "1s", "--timeout", "20s", "http://"+r.addr+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	found := wrkSummary.FindStringSubmatch(string(out))
	if found == nil || strings.Contains(string(out), "Socket errors") || strings.Contains(string(out), "Non-2xx") {
		t.Fatalf("wrk says\n%s", out)
	}
	n, err := strconv.Atoi(found[1])
	check(t, err)
	seconds, err := strconv.ParseFloat(found[2], 64)
	check(t, err)
	if found[3] == "m" {
		seconds *= 60
	}
	r.requests += n
	r.seconds += seconds
}
