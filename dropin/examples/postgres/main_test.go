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
	s := servers.StartPostgres(t)
	var out strings.Builder
	if err := run([]string{"-url", s.PostgresURL(s.Addr) + "?sslmode=verify-full&sslrootcert=" + s.Path("ca.pem")}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PostgreSQL 1", "[100 100 100 100 100 100 100 100 100 100]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
}
