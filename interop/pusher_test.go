//go:build interop

package interop

import (
	"net"
	"os/exec"
	"testing"

	"github.com/whorl-go/whorl/internal/servers"
)

// build builds an example of a module into a folder.
func build(t *testing.T, dir *servers.Folder, module, example string) (program string) {
	t.Helper()
	program = dir.Path(example)
	build := exec.Command("go", "build", "-C", module, "-race", "-o", program, "./examples/"+example)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// Pusher's own libraries, for clients and for backends, and Laravel's Echo talk to the example
// pusher.
func TestPusher(t *testing.T) {
	dir := servers.NewFolder(t)
	t.Setenv("PUSHER_APP_SECRET", "of the test")
	server := dir.Start(build(t, dir, "../cluster/nats", "pusher"), "-listen", "127.0.0.1:0", "-sign")
	host, port, err := net.SplitHostPort(server.Match(`ws://([^/]+)/`)[1])
	if err != nil {
		t.Fatal(err)
	}
	servers.Start(t, "node", "testdata/pusher.cjs", host, port, "of the test").Expect("ok\n")
}
