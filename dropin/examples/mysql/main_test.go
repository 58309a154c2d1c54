//go:build linux && interop

package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	s := servers.StartMariaDB(t)
	var out strings.Builder
	if err := run([]string{"-dsn", s.User + "@tcp(" + s.Addr + ")/test"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MariaDB", "[100 100 100 100 100 100 100 100 100 100]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}
