package tlsconfig

import (
	"context"
	"crypto/tls"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// newWatcher returns a watcher without its goroutine, and what it logs.
func newWatcher(s *Server) (*watcher, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return &watcher{server: s, logger: zap.New(core)}, logs
}

// lines returns what has been logged since the last call.
func lines(logs *observer.ObservedLogs) string {
	var all []string
	for _, entry := range logs.TakeAll() {
		all = append(all, entry.Level.String()+": "+entry.Message)
	}
	return strings.Join(all, "\n")
}

func TestWatchWarnsBeforeCertificatesRunOut(t *testing.T) {
	ca := tlstest.NewCA(t)
	const (
		day  = 24 * time.Hour
		warn = "warn: TLS certificate runs out soon"
		over = "error: TLS certificate has run out"
	)
	for _, test := range []struct {
		name string
		days int // how long the certificate is valid
		want map[int]string
	}{
		{"90 days", 90, map[int]string{50: "", 22: "", 20: warn, 19: warn, 10: warn, 5: warn, 3: warn, -2: over, -3: over, -30: over}},
		{"6 days", 6, map[int]string{4: "", 3: "", 1: warn + "\n" + warn, -2: over, -3: over}}, // two stages in one day
	} {
		c := newClock()
		cert := tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotBefore: c.now, NotAfter: c.now.Add(time.Duration(test.days)*day + time.Hour)})
		s := serve(t, ready(cert), c)
		w, logs := newWatcher(s)
		for left := test.days; left >= -30; left-- {
			for range 4 {
				w.look()
				c.move(day / 4)
			}
			got := lines(logs)
			if want, known := test.want[left]; known && got != want {
				t.Errorf("%s, %d days before: %q, want %q", test.name, left, got, want)
			}
		}
	}

	// At the moment at which it becomes worse, a warning does not wait for a day to pass.
	c := newClock()
	s := serve(t, ready(tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotBefore: c.now.Add(-100 * day), NotAfter: c.now.Add(7*day + time.Hour)})), c)
	w, logs := newWatcher(s)
	for _, step := range []struct {
		wait time.Duration
		want string
	}{{0, warn}, {time.Minute, ""}, {time.Hour, warn}, {time.Hour, ""}, {7 * day, over}, {time.Hour, ""}, {day, over}} {
		c.move(step.wait)
		w.look()
		if got := lines(logs); got != step.want {
			t.Errorf("after %v: %q, want %q", step.wait, got, step.want)
		}
	}
}

func TestWatchLogsEachChangeOnce(t *testing.T) {
	ca := tlstest.NewCA(t)
	c := newClock()
	options := fromFiles(t, tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}}))
	files := options.Certificates[0]
	s := serve(t, options, c)
	w, logs := newWatcher(s)
	look := func(what, want string) {
		t.Helper()
		w.look()
		if got := lines(logs); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		c.move(time.Minute)
		w.look()
		if got := lines(logs); got != "" {
			t.Errorf("%s, again: %q", what, got)
		}
	}
	const failed = "error: TLS certificates not reloaded: those in use stay in use"
	const reloaded = "info: TLS certificates reloaded"
	look("at first", "")
	replace(t, files, tlstest.Issued(t, ca, "mail.test"))
	look("renewed", reloaded)
	replace(t, files, tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotAfter: c.now.Add(-time.Hour)}))
	look("expired", failed)
	replace(t, files, tlstest.Signed(t, ca, devca.Request{Names: []string{"mail.test"}, NotAfter: c.now.Add(-2 * time.Hour)}))
	look("another expired", failed)
	os.Remove(files.CertFile)
	look("removed", failed)
	replace(t, files, tlstest.Issued(t, ca, "mail.test"))
	look("in order", "info: TLS certificates are in order again\n"+reloaded)
	stray, cert := tlstest.NewCA(t), tlstest.Issued(t, ca, "mail.test")
	cert.Certificate = append(cert.Certificate, ca.Cert.Raw, tlstest.Intermediate(t, stray, "Stray", c.now, c.now.Add(time.Hour)).Cert.Raw)
	replace(t, files, cert)
	look("with a warning", reloaded+"\nwarn: TLS certificate that some clients may refuse")
}

func TestWatchLogsAtTheStart(t *testing.T) {
	ca := tlstest.NewCA(t)
	cert := tlstest.Issued(t, ca, "mail.test")
	cert.Certificate = append(cert.Certificate, ca.Cert.Raw, tlstest.Intermediate(t, tlstest.NewCA(t), "Stray", time.Now(), time.Now().Add(time.Hour)).Cert.Raw)
	s := serve(t, ready(cert), nil)
	core, logs := observer.New(zapcore.DebugLevel)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Watch(ctx, WatchOptions{Logger: zap.New(core)})
	if got := lines(logs); got != "warn: TLS certificate that some clients may refuse" {
		t.Error(got)
	}
}

func TestWatchChangesTicketKeys(t *testing.T) {
	ca := tlstest.NewCA(t)
	c := newClock()
	s := serve(t, ready(tlstest.Issued(t, ca, "mail.test")), c)
	w, _ := newWatcher(s)
	key := s.tickets.random[0].key
	w.look()
	if s.tickets.random[0].key != key {
		t.Error("changed too early")
	}
	c.move(defaultRotation)
	w.look()
	if s.tickets.random[0].key == key {
		t.Error("not changed")
	}
}

func TestWatchReloads(t *testing.T) {
	ca := tlstest.NewCA(t)
	options := fromFiles(t, tlstest.Issued(t, ca, "mail.test"))
	s := serve(t, options, nil)
	signals := make(chan os.Signal, 1)
	until := func(what string, cert tls.Certificate) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); string(shown(t, s, "mail.test")) != string(cert.Leaf.Raw); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not reloaded", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	watch := func(options WatchOptions) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Watch(ctx, options)
		}()
		return func() {
			cancel()
			<-done
		}
	}

	stop := watch(WatchOptions{Interval: time.Millisecond})
	second := tlstest.Issued(t, ca, "mail.test")
	replace(t, options.Certificates[0], second)
	until("interval", second)
	stop()

	stop = watch(WatchOptions{Interval: time.Hour, Signals: signals})
	third := tlstest.Issued(t, ca, "mail.test")
	replace(t, options.Certificates[0], third)
	signals <- syscall.SIGHUP
	until("signal", third)
	stop()

	close(signals) // is no reason to end
	stop = watch(WatchOptions{Interval: time.Millisecond, Signals: signals})
	fourth := tlstest.Issued(t, ca, "mail.test")
	replace(t, options.Certificates[0], fourth)
	until("closed signals", fourth)
	stop()
}
