//go:build interop

package interop

import (
	"net"
	"os/exec"
	"testing"

	"github.com/whorl-go/whorl/internal/servers"
)

// build builds an example into a folder.
func build(t *testing.T, dir *servers.Folder, example string) (program string) {
	t.Helper()
	program = dir.Path(example)
	if out, err := exec.Command("go", "build", "-race", "-o", program, "../examples/"+example).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// Pusher's own libraries, for clients and for backends, and Laravel's Echo talk to examples/pusher.
func TestPusher(t *testing.T) {
	dir := servers.NewFolder(t)
	t.Setenv("PUSHER_APP_SECRET", "of the test")
	server := dir.Start(build(t, dir, "pusher"), "-listen", "127.0.0.1:0", "-sign")
	host, port, err := net.SplitHostPort(server.Match(`ws://([^/]+)/`)[1])
	if err != nil {
		t.Fatal(err)
	}
	servers.Start(t, "node", "testdata/pusher.cjs", host, port, "of the test").Expect("ok\n")
}
