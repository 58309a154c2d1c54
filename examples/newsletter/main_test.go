//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEverySubscriberGetsOneMail(t *testing.T) {
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"-mails", "1000", "-connections", "4"}, &stdout); err != nil {
		t.Fatal(err)
	}
	want := `^1000 subscribers: 990 mails accepted in \d+\.\d\d s, \d+ in a second; 10 refused, 0 for later\.
20 further attempts; \d+ connections for all, 4 at a time\.
The server has 990 mails for 990 subscribers\.
$`
	if !regexp.MustCompile(want).Match(stdout.Bytes()) {
		t.Errorf("printed\n%s\nwant\n%s", &stdout, want)
	}
}

func TestCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, nil, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	exampletest.Flags(t, run, map[string][]string{
		"there have to be": {"-mails", "0"},
		"connections":      {"-connections", "-1"},
		"a rate":           {"-rate", "-1"},
		"not defined: -x":  {"-x"},
	}, "-mails", "-connections", "-rate")
}
