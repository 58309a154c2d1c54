//go:build linux

package echo

import (
	_ "embed"

	"github.com/whorl-go/whorl/benchmarks/peers/cc"
)

//go:embed c/echo.c
var rawSource []byte

var raw = Peer{
	Name:  "c-epoll",
	About: "a raw epoll program in C, a thread per CPU, level-triggered",
	Plain: true,
	Build: func(dir string) (string, error) { return cc.Build(dir, "echo", rawSource) },
}
