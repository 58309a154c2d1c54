//go:build interop

package interop

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/servers"
)

var pictures = flag.String("pictures", "", "`folder` for pictures of the example's pages")

// Two pages of examples/websocket talk over wss, lose the server, and find it again.
func TestBrowser(t *testing.T) {
	dir := servers.NewFolder(t)
	addr, _ := servers.FreeAddress(t)
	browser, err := exec.LookPath("google-chrome")
	if err != nil {
		browser = servers.Find(t, "chromium")
	}
	chat := build(t, dir, "..", "websocket")
	servers.Start(t, "node", "testdata/browser.cjs", browser, chat, addr, dir.Dir).Expect("ok\n")
	if *pictures == "" {
		return
	}
	found, err := filepath.Glob(dir.Path("*.png"))
	leaktest.Check(t, err)
	for _, picture := range found {
		data, err := os.ReadFile(picture)
		leaktest.Check(t, err)
		leaktest.Check(t, os.WriteFile(filepath.Join(*pictures, filepath.Base(picture)), data, 0o644))
	}
}
