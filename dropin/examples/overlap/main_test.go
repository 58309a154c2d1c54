//go:build linux && interop

package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun: all have begun before one has ended.
func TestRun(t *testing.T) {
	database, cache := servers.StartMariaDB(t), servers.StartRedis(t)
	dsn := database.User + "@tcp(" + database.Addr + ")/test"
	var out strings.Builder
	if err := run([]string{"-dsn", dsn, "-redis", cache.Addr}, &out); err != nil {
		t.Fatal(err)
	}
	begin, rest, _ := strings.Cut(out.String(), "redis begins\n")
	if want := "mysql 1 begins\nmysql 2 begins\nmysql 3 begins\n"; begin != want {
		t.Errorf("the output begins with %q, want %q", begin, want)
	}
	for _, want := range []string{
		"mysql 1 ends with 10\n", "mysql 2 ends with 20\n", "mysql 3 ends with 30\n",
		"redis ends with nothing\n",
	} {
		if !strings.Contains(rest, want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	t.Log(out.String())
}
