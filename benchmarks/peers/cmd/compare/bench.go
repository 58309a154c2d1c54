//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/benchmarks/peers/cc"
	"github.com/whorl-go/whorl/benchmarks/peers/child"
	"github.com/whorl-go/whorl/benchmarks/peers/clients"
	"github.com/whorl-go/whorl/benchmarks/peers/echo"
	"github.com/whorl-go/whorl/benchmarks/peers/identity"
	"github.com/whorl-go/whorl/benchmarks/peers/otherside"
	"github.com/whorl-go/whorl/benchmarks/peers/websockets"
)

// entry is a server that takes part.
type entry struct {
	label   string // the peer's name, with a number if it takes part more than once
	peer    echo.Peer
	program string
	args    []string
}

// clientEntry is a client that takes part.
type clientEntry struct {
	label   string
	peer    clients.Peer
	program string // if it is one of its own
}

// webSocketEntry is a WebSocket server that takes part.
type webSocketEntry struct {
	label string
	peer  websockets.Peer
}

// bench is what all measurements share.
type bench struct {
	settings      *Settings
	self          string // the path of this program
	dir           string // what was built
	entries       []entry
	clientEntries []clientEntry
	webEntries    []webSocketEntry
	left          []string     // what can't take part, with the reason
	measuredCPUs  *unix.CPUSet // of the server or the client that is measured
	otherCPUs     *unix.CPUSet // of the load generator, or of what a client talks to
	identity      *identity.Identity
	noSyscalls    bool // they can't be counted here
}

func newBench(s *Settings) (*bench, error) {
	b := &bench{settings: s}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "compare"); err != nil {
		return nil, err
	}
	err = errors.Join(b.enter(), b.enterClients(), b.enterWebSockets())
	if err == nil {
		b.identity, err = identity.New()
	}
	if err == nil && s.Split {
		err = b.split()
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.dir) }

func (b *bench) enter() error {
	times := map[string]int{}
	for _, name := range b.settings.Servers {
		peer, err := echo.Find(name)
		if err != nil {
			return err
		}
		e := entry{label: label(name, times), peer: peer, program: b.self,
			args: []string{serveCommand}}
		if peer.Build != nil {
			e.args = nil
			if e.program, err = b.build(name, peer.Build); err != nil {
				return err
			} else if e.program == "" {
				continue
			}
		}
		b.entries = append(b.entries, e)
	}
	return nil
}

func (b *bench) enterClients() error {
	times := map[string]int{}
	for _, name := range b.settings.Clients {
		peer, err := clients.Find(name)
		if err != nil {
			return err
		}
		e := clientEntry{label: label(name, times), peer: peer}
		if peer.Build != nil {
			if e.program, err = b.build(name, peer.Build); err != nil {
				return err
			} else if e.program == "" {
				continue
			}
		}
		b.clientEntries = append(b.clientEntries, e)
	}
	return nil
}

// label returns a name, with a number if it takes part more than once.
func label(name string, times map[string]int) string {
	times[name]++
	if n := times[name]; n > 1 {
		return fmt.Sprintf("%s (%d)", name, n)
	}
	return name
}

// build returns the path of a program that has to be built, or nothing if it has to be left out.
func (b *bench) build(name string, build func(dir string) (string, error)) (path string,
	err error) {
	path, err = build(b.dir)
	if errors.Is(err, cc.ErrNoCompiler) {
		if why := fmt.Sprintf("%s: %v", name, err); !slices.Contains(b.left, why) {
			b.left = append(b.left, why)
		}
		return "", nil
	}
	return path, err
}

// split deals out the CPUs that this process may use: what is measured gets the first half.
func (b *bench) split() error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	b.measuredCPUs, b.otherCPUs = &unix.CPUSet{}, &unix.CPUSet{}
	count, seen := all.Count(), 0
	for cpu := range len(all) * 64 {
		if !all.IsSet(cpu) {
			continue
		}
		if seen < count/2 {
			b.measuredCPUs.Set(cpu)
		} else {
			b.otherCPUs.Set(cpu)
		}
		seen++
	}
	return nil
}

// generators is on how many CPUs the load is made.
func (b *bench) generators() int {
	if b.otherCPUs != nil {
		return b.otherCPUs.Count()
	}
	return runtime.NumCPU()
}

// width is how many CPUs a server or a client can use.
func (b *bench) width() int {
	if b.measuredCPUs != nil {
		return b.measuredCPUs.Count()
	}
	return runtime.NumCPU()
}

// about tells who takes part.
func (b *bench) about(r *Result) {
	versions := moduleVersions()
	for _, e := range b.entries {
		r.Servers = append(r.Servers, about(e.label, e.peer.About, e.peer.Module, e.peer.Build != nil,
			versions))
	}
	for _, e := range b.clientEntries {
		r.Clients = append(r.Clients, about(e.label, e.peer.About, e.peer.Module,
			e.peer.Build != nil, versions))
	}
	for _, e := range b.webEntries {
		r.WebSockets = append(r.WebSockets, about(e.label, e.peer.About, e.peer.Module, false,
			versions))
	}
	for _, why := range b.left {
		r.Clients = append(r.Clients, About{Name: "left out", Text: why})
	}
}

func about(name, text, module string, compiled bool, versions map[string]string) About {
	a := About{Name: name, Text: text, Version: versions[module]}
	if module == "" {
		a.Version = runtime.Version()
	}
	if compiled {
		a.Version, _ = cc.Version() // It has compiled, so it is there.
	}
	return a
}

// start begins a server with a per-connection buffer of that size.
func (b *bench) start(e entry, tls bool, buffer int) (*child.Child, error) {
	config := echo.Config{Server: e.peer.Name, TLS: tls, Buffer: buffer}
	if tls {
		config.Cert, config.Key = b.identity.Chain, b.identity.Key
	}
	return child.Start(child.Spec{Name: e.label, Program: e.program, Args: e.args, Config: config,
		CPUs: b.measuredCPUs})
}

// dial begins the load generator of a server, with conns connections of the most that there will
// be.
func (b *bench) dial(server *child.Child, conns, most, size int, tls bool) (*child.Child, error) {
	config := otherside.Generator{Addr: server.Addr, Conns: conns, Most: most, Size: size, TLS: tls,
		Spin: b.settings.Split}
	if tls {
		config.CA, config.ServerName = b.identity.CA, identity.Server
	}
	return child.Start(child.Spec{
		Name: "the load generator", Program: b.self, Args: []string{loadCommand}, Config: config,
		CPUs: b.otherCPUs, Counted: true,
	})
}

// with tells which entries can serve plaintext or TLS, beginning with another one in each round: no
// server always has the same neighbour.
func (b *bench) with(tls bool, round int) (able []entry) {
	for _, e := range b.entries {
		if tls && e.peer.TLS || !tls && e.peer.Plain {
			able = append(able, e)
		}
	}
	return rotated(able, round)
}

// rotated begins with another one in each round.
func rotated[E any](all []E, round int) []E {
	if len(all) == 0 {
		return nil
	}
	first := round % len(all)
	return slices.Concat(all[first:], all[:first])
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
