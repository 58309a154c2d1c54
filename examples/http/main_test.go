//go:build unix

package main

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
	"github.com/whorl-go/whorl/internal/leaktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) { exampletest.Demonstration(t, run) }

// Events come while the response goes on, and a request that is being served is finished.
func TestAStreamIsFinishedAtTheEnd(t *testing.T) {
	base, stop := exampletest.Serve(t, run, "Server on ")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(base + "events")
	leaktest.Check(t, err)
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "data: event 1\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	rest, err := io.ReadAll(body)
	if err != nil || !strings.HasSuffix(string(rest), "data: event 3\n\n") {
		t.Errorf("%q, %v", rest, err)
	}
	<-ended
}

func TestFlags(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":    {"-x"},
		"missing port":       {"-listen", "127.0.0.1"},
		"are for -listen":    {"-secure", "127.0.0.1:0"},
		"-ca is for -secure": {"-listen", "127.0.0.1:0", "-ca", "x"},
	}, "-listen", "-secure", "-ca")
}
