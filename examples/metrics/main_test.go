//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"slices"
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

func TestServingUntilToldToEnd(t *testing.T) {
	t.Parallel()
	first, _ := exampletest.Serve(t, run, "Echo on ")
	address, url, _ := strings.Cut(first, ", metrics on ")
	conn, err := net.DialTimeout("tcp", address, exampletest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(exampletest.Patience))
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	figures, err := scrape(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`whorl_server_received_bytes_total{server="echo"} 6`, `whorl_server_connections{server="echo"} 1`,
		`whorl_loop_descriptors{loop="whorl-0"} `, `whorl_runtime_coroutines `,
	} {
		if !slices.ContainsFunc(figures, func(figure string) bool { return strings.HasPrefix(figure, want) }) {
			t.Errorf("%s is missing in\n%s", want, strings.Join(figures, "\n"))
		}
	}
	if _, err := scrape(url + "/none"); err == nil {
		t.Error("there is another page")
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":   {"-x"},
		"not an IP address": {"-listen", "example.com:0"},
		"listen tcp":        {"-metrics", "127.0.0.1:x"},
	}, "-listen", "-metrics")
}
