// Package childtest has tests start their own binary again, as a process of its own: for what a
// test does to the whole process, and for the other side of a benchmark.
package childtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// testVariable names, in the environment of a process, the test that it is there for.
const testVariable = "WHORL_TEST_CHILD"

// Command prepares the test to be run again, in a process of its own, in which [Is] is true.
func Command(t testing.TB) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), testVariable+"="+t.Name())
	return cmd
}

// Is reports whether this is the process that [Command] has been for.
func Is(t testing.TB) bool { return os.Getenv(testVariable) == t.Name() }

// Alone runs the test in a process of its own, with variables added to its environment, and reports
// whether this is that process: what it does to itself doesn't concern others. Where it is false
// the test is over, and has failed if it failed there.
func Alone(t testing.TB, environment ...string) bool {
	t.Helper()
	if Is(t) {
		return true
	}
	cmd := Command(t)
	cmd.Env = append(cmd.Env, environment...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
