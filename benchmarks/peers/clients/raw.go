//go:build linux

package clients

import (
	_ "embed"
	"net"
	"strconv"

	"github.com/whorl-go/whorl/benchmarks/peers/cc"
	"github.com/whorl-go/whorl/internal/bench/farside"
)

//go:embed c/client.c
var rawSource []byte

var raw = Peer{
	Name:  "c-epoll",
	About: "a raw epoll program in C, a thread per CPU, level-triggered",
	Plain: []Work{RoundTrip},
	Build: func(dir string) (string, error) { return cc.Build(dir, "client", rawSource) },
	Arguments: func(c *Config) []string {
		host, port, err := net.SplitHostPort(c.Addr)
		if err != nil {
			host = c.Addr // The program says what is wrong with it.
		}
		return []string{host, port, strconv.Itoa(c.Conns), strconv.Itoa(c.Size),
			strconv.Itoa(farside.PerAddress)}
	},
}
