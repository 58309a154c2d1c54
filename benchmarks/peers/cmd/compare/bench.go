//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/benchmarks/peers/load"
	"github.com/whorl-go/whorl/tlsconfig"
)

// entry is a server that takes part.
type entry struct {
	label   string // the peer's name, with a number if it takes part more than once
	peer    echo.Peer
	program string
	args    []string
}

// bench is what all measurements share.
type bench struct {
	settings   *Settings
	dir        string // what was built
	entries    []entry
	left       []string // servers that can't take part, with the reason
	serverCPUs *unix.CPUSet
	clientCPUs *unix.CPUSet
	cert, key  string
	client     *tls.Config
	noSyscalls bool // they can't be counted here
}

func newBench(s *Settings) (*bench, error) {
	b := &bench{settings: s}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return nil, err
	}
	b.dir = dir
	if err := errors.Join(b.enter(), b.certify()); err != nil {
		b.close()
		return nil, err
	}
	if s.Split {
		if err := b.split(); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.dir) }

func (b *bench) enter() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, name := range b.settings.Servers {
		peer, err := echo.Find(name)
		if err != nil {
			return err
		}
		times[name]++
		e := entry{label: name, peer: peer, program: self, args: []string{serveCommand}}
		if times[name] > 1 {
			e.label = fmt.Sprintf("%s (%d)", name, times[name])
		}
		if peer.Build != nil {
			e.args = nil
			if e.program, err = peer.Build(b.dir); errors.Is(err, echo.ErrNoCompiler) {
				b.left = append(b.left, fmt.Sprintf("%s: %v", name, err))
				continue
			} else if err != nil {
				return err
			}
		}
		b.entries = append(b.entries, e)
	}
	return nil
}

func (b *bench) certify() error {
	ca, err := tlsconfig.NewCA("compare")
	if err != nil {
		return err
	}
	pair, err := ca.Issue("server.test")
	if err != nil {
		return err
	}
	chain, key, err := tlsconfig.EncodePEM(pair)
	if err != nil {
		return err
	}
	b.cert, b.key = string(chain), string(key)
	b.client = &tls.Config{RootCAs: ca.Pool(), ServerName: "server.test"}
	return nil
}

// split deals out the CPUs that this process may use: the generator gets the second half.
func (b *bench) split() error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	b.serverCPUs, b.clientCPUs = &unix.CPUSet{}, &unix.CPUSet{}
	count, seen := all.Count(), 0
	for cpu := range len(all) * 64 {
		if !all.IsSet(cpu) {
			continue
		}
		if seen < count/2 {
			b.serverCPUs.Set(cpu)
		} else {
			b.clientCPUs.Set(cpu)
		}
		seen++
	}
	return nil
}

// generators is how many threads make the load.
func (b *bench) generators() int { return max(1, runtime.NumCPU()/2) }

// serverWidth is how many CPUs a server can use.
func (b *bench) serverWidth() int {
	if b.serverCPUs != nil {
		return b.serverCPUs.Count()
	}
	return runtime.NumCPU()
}

func (b *bench) about() (all []About) {
	versions := moduleVersions()
	for _, e := range b.entries {
		about := About{Server: e.label, Text: e.peer.About, Version: versions[e.peer.Module]}
		if e.peer.Module == "" {
			about.Version = runtime.Version()
		}
		if e.peer.Build != nil {
			about.Version = compilerVersion()
		}
		all = append(all, about)
	}
	for _, why := range b.left {
		all = append(all, About{Server: "left out", Text: why})
	}
	return all
}

// start begins a server with a per-connection buffer of that size.
func (b *bench) start(e entry, tls bool, buffer int) (*child.Child, netip.AddrPort, error) {
	config := echo.Config{Server: e.peer.Name, TLS: tls, Buffer: buffer}
	if tls {
		config.Cert, config.Key = b.cert, b.key
	}
	c, err := child.Start(config, b.serverCPUs, e.program, e.args...)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		c.Stop()
	}
	return c, addr, err
}

func (b *bench) dial(addr netip.AddrPort, conns, size int, tls bool) (*load.Generator, error) {
	options := load.Options{Addr: addr, Conns: conns, Size: size, Loops: b.generators(), CPUs: b.clientCPUs, Spin: b.settings.Split}
	if tls {
		options.TLS = b.client
	}
	return load.Dial(options)
}

// with tells which entries can serve plaintext or TLS, beginning with another one in each round: no server always has the same neighbour.
func (b *bench) with(tls bool, round int) (able []entry) {
	for _, e := range b.entries {
		if tls && e.peer.TLS || !tls && e.peer.Plain {
			able = append(able, e)
		}
	}
	if len(able) == 0 {
		return nil
	}
	first := round % len(able)
	return slices.Concat(able[first:], able[:first])
}

// transports are what is to be measured, plaintext first.
func (b *bench) transports() (tls []bool) {
	if b.settings.Plain {
		tls = append(tls, false)
	}
	if b.settings.TLS {
		tls = append(tls, true)
	}
	return tls
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// quiet collects this process's garbage now, so that it doesn't while a server is measured.
func quiet() { debug.FreeOSMemory() }
