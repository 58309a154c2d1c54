//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	t.Parallel()
	exampletest.Demonstration(t, run)
}

func TestDemonstrations(t *testing.T) {
	for _, test := range []struct {
		args        []string
		description string
		handshakes  int
	}{
		{[]string{"-style", "callback"}, "with callbacks", 0},
		{[]string{"-tls"}, "with a coroutine per connection, over TLS", 3},
		{[]string{"-style", "callback", "-tls"}, "with callbacks, over TLS", 3},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout bytes.Buffer
			if err := run(t.Context(), test.args, &stdout); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("Echo on ADDRESS, %s.\n", test.description)
			for i := range 3 {
				want += fmt.Sprintf("Client %d: \"hello from client %[1]d\", \"and goodbye from client %[1]d\"\n", i+1)
			}
			want += fmt.Sprintf("Connections served: 3, over TLS: %d. Lines in: 6, out: 6.\n", test.handshakes)
			if got := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(stdout.String(), "ADDRESS"); got != want {
				t.Errorf("printed\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestServingUntilToldToEnd(t *testing.T) {
	t.Parallel()
	for _, style := range []string{"handle", "callback"} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			first, stop := exampletest.Serve(t, run, "Echo on ", "-style", style, "-tls", "-ca", ca)
			address, _, _ := strings.Cut(first, ",")

			pem, err := os.ReadFile(ca)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(pem)
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: exampletest.Patience}, "tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(exampletest.Patience))
			const line = "said by somebody else\n"
			if _, err := io.WriteString(conn, line); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(conn)
			if got, err := reader.ReadString('\n'); got != line || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			printed := stop()
			if _, err := reader.ReadByte(); err != io.EOF {
				t.Errorf("after the end of the server: %v", err)
			}
			if printed != "Connections served: 1, over TLS: 1. Lines in: 1, out: 1.\n" {
				t.Errorf("printed %q at the end", printed)
			}
		})
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		`-style "x"`:        {"-style", "x"},
		"-ca is for -tls":   {"-ca", "ca.pem"},
		"not defined: -x":   {"-x"},
		"no such file":      {"-tls", "-ca", filepath.Join(t.TempDir(), "none", "ca.pem")},
		"listen on tcp 1.2": {"-listen", "1.2.3.4:80"},
	}, "-style", "-tls", "-ca", "-listen")
}
