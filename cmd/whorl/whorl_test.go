//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/bench"
	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/tlstest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen: far longer than a busy machine needs.
const patience = 60 * time.Second

// whorl runs a command line to its end.
func whorl(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return piped(t, "", args...)
}

// piped is whorl with a standard input.
func piped(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	code = execute(ctx, append([]string{"whorl"}, args...), strings.NewReader(stdin), &out, &errs)
	if ctx.Err() != nil {
		t.Fatalf("%q takes too long", args)
	}
	return code, out.String(), errs.String()
}

// lines is a writer that tells of its first line.
type lines struct {
	mu    sync.Mutex
	text  strings.Builder
	first chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := strings.Contains(l.text.String(), "\n")
	l.text.Write(p)
	if line, _, complete := strings.Cut(l.text.String(), "\n"); complete && !had {
		l.first <- line
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// served runs whorl bench serve beside the test and returns its address, and a function that ends
// it and returns what it has said.
func served(t *testing.T, args ...string) (address string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{first: make(chan string, 1)}
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- execute(ctx, append([]string{"whorl", "bench", "serve", "--listen", "127.0.0.1:0"},
			args...), strings.NewReader(""), out, &errs)
	}()
	stop = sync.OnceValue(func() string {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("serve exits with %d: %s", code, errs.String())
		}
		return out.String()
	})
	t.Cleanup(func() { stop() })
	select {
	case line := <-out.first:
		match := regexp.MustCompile(`^listening on (127\.0\.0\.1:\d+) \(`).FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("serve says %q", line)
		}
		return match[1], stop
	case code := <-done:
		done <- code
		t.Fatalf("serve ends with %d: %s", code, errs.String())
	case <-time.After(patience):
		t.Fatal("serve doesn't begin")
	}
	return "", stop
}

func TestBenchWebSocket(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	plain, stop := served(t, "--role", "websocket")
	secure, _ := served(t, "--role", "websocket-broadcast", "--tls", "--ca-out", ca)
	for name, c := range map[string]struct {
		args  []string
		wants []string
	}{
		"echo": {[]string{"ws://" + plain + "/chat?room=1", "-n", "20", "-c", "3", "--header",
			"Authorization: Bearer x"}, []string{"websocket-echo", "upgrade", "of 3 were used"}},
		"idle": {[]string{"ws://" + plain, "-n", "20", "-c", "3", "-d", "600ms", "--heartbeat",
			"200ms"}, []string{"20 held", "heartbeat"}},
		"broadcast": {[]string{"wss://" + secure, "-n", "20", "-c", "3", "--ca", ca},
			[]string{"TLS 1.3", "delivery"}},
	} {
		args := append([]string{"bench", "websocket", name, "--json", "-"}, c.args...)
		code, stdout, stderr := whorl(t, args...)
		var result map[string]any
		if err := json.Unmarshal([]byte(stdout), &result); code != 0 || err != nil ||
			result["mode"] != "websocket-"+name || result["operations"] != 20.0 {
			t.Fatalf("%s: exit code %d, %v, %s\n%s", name, code, err, stderr, stdout)
		}
		for _, want := range append(c.wants, "no errors") {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: the table lacks %q:\n%s", name, want, stderr)
			}
		}
	}
	if said := stop(); !strings.HasPrefix(strings.Split(said, "\n")[1], "25 connections") {
		t.Errorf("serve says %q", said)
	}
}

func TestURLsThatAreNoWebSockets(t *testing.T) {
	for _, args := range [][]string{
		{"http://localhost/"}, {"localhost:9501"}, {"ws:///path"}, {"ws://user@localhost/"},
		{"ws://localhost/#part"}, {"ws://localhost/", "--ca", "ca.pem"},
		{"ws://localhost/", "--header", "nothing"}, {"ws://localhost:x/"},
	} {
		args := append([]string{"bench", "websocket", "echo"}, args...)
		if code, stdout, _ := whorl(t, args...); code != exitUsage {
			t.Errorf("%q: exit code %d\n%s", args, code, stdout)
		}
	}
}

func TestBenchAgainstServe(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	address, stop := served(t, "--starttls", "imap", "--ca-out", file("ca.pem"), "--client-auth",
		"--client-out", file("client.pem"))
	code, stdout, stderr := whorl(t, "bench", "handshake", address, "-n", "20", "-c", "3",
		"--starttls", "imap", "--ca", file("ca.pem"), "--cert", file("client.pem"),
		"--server-name", "localhost", "--tls-max", "1.2", "--tls-min", "1.2", "--groups", "X25519",
		"--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384", "--alpn", "imap",
		"--first-byte", "auto", "--resume", "0.5", "--json", file("r.json"), "--csv", file("r.csv"),
		"--hgrm", file("r.hgrm"), "--plot", file("r.svg"))
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s\n%s", code, stderr, stdout)
	}
	for _, want := range []string{"TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, X25519: 10",
		"resumed: 10", "no errors", "--server-name localhost", "starttls", "first_byte"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the table lacks %q:\n%s", want, stdout)
		}
	}
	var result map[string]any
	data, err := os.ReadFile(file("r.json"))
	if err == nil {
		err = json.Unmarshal(data, &result)
	}
	if err != nil || result["operations"] != 20.0 || result["mode"] != "handshake" ||
		result["tls"].(map[string]any)["resumed_share"] != 0.5 {
		t.Errorf("JSON: %v\n%s", err, data)
	}
	for name, want := range map[string]string{"r.csv": "start_seconds,", "r.hgrm": "Percentile",
		"r.svg": "</svg>"} {
		if data, err := os.ReadFile(file(name)); err != nil ||
			!strings.Contains(string(data), want) {
			t.Errorf("%s: %v, %d bytes", name, err, len(data))
		}
	}
	if said := stop(); !strings.Contains(said, "0 failed") || strings.Count(said, "\n") != 2 {
		t.Errorf("serve says %q", said)
	}
}

// What fails in the course of a run is said as on this command line, too.
func TestExamplesOfErrorsNameFlags(t *testing.T) {
	ca := tlstest.NewCA(t)
	own, err := devca.SelfSigned(devca.Request{Names: []string{"localhost"}})
	leaktest.Check(t, err)
	certs := []tls.Certificate{tlstest.Issued(t, ca, "localhost"), own}
	var shown atomic.Int32
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &certs[min(shown.Add(1)-1, 1)], nil
		},
	})
	leaktest.Check(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	})
	defer serving.Wait()
	defer l.Close()
	_, stdout, stderr := whorl(t, "bench", "handshake", l.Addr().String(), "-n", "3", "-c", "1",
		"--ca", tlstest.File(t, "ca.pem", ca.PEM()), "--server-name", "localhost")
	if !strings.Contains(stdout, "trust it by --ca, or for tests by --insecure") ||
		foreignNames(stdout) != nil {
		t.Errorf("%s%s", stdout, stderr)
	}
}

func TestResultOnStandardOutput(t *testing.T) {
	address, _ := served(t)
	code, stdout, stderr := whorl(t, "bench", "pingpong", address, "-n", "10", "-c", "2", "--json",
		"-", "--loops", "1")
	var result map[string]any
	if err := json.Unmarshal([]byte(stdout), &result); code != 0 || err != nil ||
		result["operations"] != 10.0 {
		t.Errorf("exit code %d, %v\n%s", code, err, stdout)
	}
	if !strings.Contains(stderr, "no errors") {
		t.Errorf("the table isn't on standard error: %s", stderr)
	}
	page := filepath.Join(t.TempDir(), "r.html")
	code, _, stderr = whorl(t, "bench", "connections", address, "-c", "8", "-d", "50ms", "--hold",
		"coroutine", "--plot", page, "-q")
	if data, err := os.ReadFile(page); code != 0 || err != nil ||
		!strings.Contains(string(data), "per connection: heap") {
		t.Errorf("exit code %d, %v, %s", code, err, stderr)
	}
	code, stdout, stderr = whorl(t, "bench", "throughput", address, "-n", "50", "--direction",
		"both", "--framing", "length", "--size", "1000")
	if code != 0 || !strings.Contains(stdout, "48.8 KiB sent, 48.8 KiB received") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, stdout)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := whorl(t, "--version")
	if code != 0 || stderr != "" || strings.TrimSpace(stdout) != "whorl version "+report.Version() {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// A file that can't be written is found before the run, and what was in it is there until the run
// has a result.
func TestFilesAreOpenedBeforeTheRun(t *testing.T) {
	address, stop := served(t)
	dir := t.TempDir()
	good, new := filepath.Join(dir, "r.json"), filepath.Join(dir, "new.json")
	if err := os.WriteFile(good, []byte(strings.Repeat("old ", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := whorl(t, "bench", "pingpong", address, "-n", "1", "--json", new, "--csv",
		filepath.Join(dir, "none", "r.csv"))
	if code != exitFailed || !strings.Contains(stderr, "none/r.csv") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(new); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run that wasn't made leaves a file: %v", err)
	}
	if said := stop(); !strings.HasSuffix(said,
		"\n0 connections, 0 TLS handshakes, 0 failed before their end\n") {
		t.Errorf("the server has seen a run: %q", said)
	}
	if code, _, _ := whorl(t, "bench", "pingpong", address, "-n", "1", "--json", good, "--csv",
		new); code != exitFailed {
		t.Errorf("nobody there: exit code %d", code)
	}
	if data, err := os.ReadFile(good); err != nil || len(data) != 40_000 {
		t.Errorf("a run that has failed leaves %d bytes, %v", len(data), err)
	}
	if _, err := os.Stat(new); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run that has failed leaves a file: %v", err)
	}
	address, _ = served(t)
	code, _, stderr = whorl(t, "bench", "pingpong", address, "-n", "1", "--json", good)
	if data, err := os.ReadFile(good); code != 0 || err != nil || !json.Valid(data) {
		t.Errorf("exit code %d, %s, %v\n%s", code, stderr, err, data)
	}
}

func TestWhatIsSentForTheFirstByteHasEscapes(t *testing.T) {
	for text, want := range map[string]string{
		`PING\r\n`: "PING\r\n", `a"b'c\\`: `a"b'c\`, `\x00\xffé`: "\x00\xffé", `\u00e9`: "é",
	} {
		g := generator{firstByte: text}
		if got, err := g.opening(); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", text, got, err)
		}
	}
	if got, err := (&generator{firstByte: "wait"}).opening(); err != nil || got != nil {
		t.Errorf("wait is %q, %v", got, err)
	}
}

func TestServeEndsByItself(t *testing.T) {
	if code, stdout, stderr := whorl(t, "bench", "serve", "--listen", "127.0.0.1:0", "-d", "10ms",
		"--role", "sink", "--loops", "1"); code != 0 ||
		!strings.Contains(stdout, "(sink)") || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestAFailedRunExitsWithOne(t *testing.T) {
	address, stop := served(t, "--role", "sink")
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"no operation": {"pingpong", address, "-n", "2", "-c", "1", "--timeout", "50ms"},
		"no TLS there": {"handshake", address, "-n", "1", "--insecure", "--timeout", "1s"},
		"no such file": {"throughput", address, "-n", "1", "--json",
			filepath.Join(dir, "none", "r.json")},
		"no listener": {"serve", "--listen", address},
	} {
		if code, _, stderr := whorl(t, append([]string{"bench"}, args...)...); code != exitFailed ||
			stderr == "" {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
	}
	stop()
	if code, _, stderr := whorl(t, "bench", "pingpong", address, "-n", "1"); code != exitFailed ||
		!strings.Contains(stderr, "refused") {
		t.Errorf("nobody there: exit code %d, %s", code, stderr)
	}
}

func TestAFailedHandshakeSaysWhichFlagHelps(t *testing.T) {
	address, _ := served(t, "--tls", "--name", "other.test", "--ca-out",
		filepath.Join(t.TempDir(), "x"))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	named, _ := served(t, "--tls", "--name", "other.test", "--ca-out", ca)
	plain, _ := served(t, "--role", "sink")
	for want, args := range map[string][]string{
		"--ca FILE":           {address, "--server-name", "other.test"},
		"--server-name NAME":  {named, "--ca", ca},
		"--starttls PROTOCOL": {plain, "--insecure", "--timeout", "500ms"},
	} {
		code, _, stderr := whorl(t, append([]string{"bench", "handshake", "-n", "1"}, args...)...)
		if code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, %s; want %s", code, stderr, want)
		}
	}
}

func TestAWrongCallExitsWithTwo(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown command":                {"examine"},
		"is no mode of bench":            {"bench", "flood"},
		"unknown flag: --speed":          {"bench", "pingpong", "a:1", "--speed", "9"},
		"invalid argument":               {"bench", "pingpong", "a:1", "-n", "many"},
		"accepts 1 arg":                  {"bench", "pingpong"},
		"want host:port":                 {"bench", "pingpong", "localhost"},
		"want more than 0":               {"bench", "pingpong", "a:1", "-n", "0"},
		"0 connections: want":            {"bench", "pingpong", "a:1", "-c", "0"},
		"a rate of -1":                   {"bench", "pingpong", "a:1", "--rate", "-1"},
		"known are ftp, imap, irc, ldap": {"bench", "handshake", "a:1", "--starttls", "gopher"},
		"exclude each other": {"bench", "pingpong", "a:1", "--starttls", "smtp",
			"--tls"},
		"would be in plaintext": {"bench", "pingpong", "a:1", "--insecure"},
		"verifies nothing":      {"bench", "handshake", "a:1", "--insecure", "--ca", "x"},
		"--ca: ":                {"bench", "handshake", "a:1", "--ca", "/nowhere/ca.pem"},
		"--ciphers: ": {"bench", "handshake", "a:1", "--ciphers",
			"TLS_AES_128_GCM_SHA256"},
		"--groups: ":            {"bench", "handshake", "a:1", "--groups", "X448"},
		"set --cert as well":    {"bench", "handshake", "a:1", "--key", "x"},
		"set --key\n":           {"bench", "handshake", "a:1", "--passphrase-file", os.Args[0]},
		"flags for TLS without": {"bench", "pingpong", "a:1", "--passphrase-file", "x"},
		"--tls-min":             {"bench", "handshake", "a:1", "--tls-min", "3"},
		"is above --tls-max": {"bench", "handshake", "a:1", "--tls-min", "1.3",
			"--tls-max", "1.2"},
		"below the default of":       {"bench", "handshake", "a:1", "--tls-max", "1.1"},
		"resume 2: want 0 to 1":      {"bench", "handshake", "a:1", "--resume", "2"},
		"--first-byte \"\"":          {"bench", "handshake", "a:1", "--first-byte", ""},
		"--first-byte auto: without": {"bench", "handshake", "a:1", "--first-byte", "auto"},
		"begins an escape":           {"bench", "handshake", "a:1", "--first-byte", `PING\q`},
		"no framing":                 {"bench", "pingpong", "a:1", "--framing", "json"},
		"a message of 1 bytes": {"bench", "pingpong", "a:1", "--framing", "eof", "--size",
			"1"},
		"direction \"up\"":        {"bench", "throughput", "a:1", "--direction", "up"},
		"hold \"tight\"":          {"bench", "connections", "a:1", "--hold", "tight"},
		".svg or .html":           {"bench", "pingpong", "a:1", "--plot", "x.png"},
		"source \"here\"":         {"bench", "pingpong", "a:1", "--source", "here"},
		"no role":                 {"bench", "serve", "--role", "proxy"},
		"ldap has no server here": {"bench", "serve", "--starttls", "ldap"},
		"would speak plaintext":   {"bench", "serve", "--ca-out", "x"},
		"come together":           {"bench", "serve", "--tls", "--cert", "x"},
		"unknown command \"now\"": {"bench", "serve", "now"},
	} {
		code, stdout, stderr := whorl(t, args...)
		if code != exitUsage || !strings.Contains(stderr, want) ||
			!strings.Contains(stderr, "--help") || stdout != "" {
			t.Errorf("%q: exit code %d, %q; want %q", args, code, stderr, want)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	common := []string{"--connections", "--number", "--duration", "--rate", "--loops", "--warmup",
		"--ca ", "--insecure", "--server-name", "--json", "--csv", "--hgrm", "--plot",
		"--starttls", "--tls-min", "--tls-max", "--ciphers", "--groups", "--cert", "--key",
		"--source"}
	for mode, own := range map[string][]string{
		"handshake": {"--resume", "--first-byte"}, "throughput": {"--size", "--framing",
			"--direction"}, "pingpong": {"--size"}, "connections": {"--heartbeat", "--hold"},
	} {
		code, stdout, _ := whorl(t, "bench", mode, "--help")
		for _, flag := range append(own, common...) {
			if code != 0 || !strings.Contains(stdout, flag) {
				t.Errorf("the help of %s doesn't name %s", mode, flag)
			}
		}
	}
	for _, mode := range []string{"handshake", "throughput", "pingpong", "connections", "serve"} {
		if code, stdout, _ := whorl(t, "bench"); code != 0 || !strings.Contains(stdout, mode) {
			t.Errorf("the help of bench doesn't name %s", mode)
		}
	}
}

func TestCommandLineCanBeRepeated(t *testing.T) {
	got := commandLine([]string{"/usr/local/bin/whorl", "bench", "--ca", "my file.pem", "it's", "",
		"[::1]:25", "--rate=1e3"})
	if want := `whorl bench --ca 'my file.pem' 'it'\''s' '' [::1]:25 --rate=1e3`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestProgressIsQuietWithoutATerminal(t *testing.T) {
	if newProgress(io.Discard) != nil {
		t.Error("a bar on what is no file")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newProgress(f) != nil {
		t.Error("a bar on what is no terminal")
	}
	(*progress)(nil).finish()
	var w bytes.Buffer
	p := &progress{newBar(&w)}
	p.show(bench.Progress{Stage: "handshake", Operations: 100, Errors: 3, Rate: 50, Done: 0.5,
		Left: 5 * time.Second})
	p.finish()
	if text := w.String(); !strings.Contains(text, "handshake: 50/s, 100 done, 3 errors, 5s left") {
		t.Errorf("the bar shows %q", text)
	}
}
