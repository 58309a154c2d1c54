//go:build linux

package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(nil, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), ": SERVING\n") {
		t.Errorf("the output is %q", &out)
	}
}

func TestUnknownService(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-service", "nobody's"}, &out); err == nil || !strings.Contains(err.Error(), "unknown service") {
		t.Errorf("error is %v; the output is %q", err, &out)
	}
}
