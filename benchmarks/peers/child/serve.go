//go:build linux

package child

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/whorl-go/whorl/benchmarks/peers/echo"
)

// controlFD is the descriptor that a server answers on. Standard output is left to the libraries, some of which log there.
const controlFD = 3

// The protocol: the parent writes a line with the echo.Config to the child's standard input, the child answers with a greeting. From then on each
// line "memory" is answered with a Memory. The child ends when its standard input does, so that it can't outlive its parent.
type greeting struct {
	Addr  string `json:"addr"`
	Error string `json:"error,omitempty"`
}

const memoryCommand = "memory"

// Memory is what a server's process holds, in bytes, after a full collection.
type Memory struct {
	Heap  uint64 `json:"heap"`  // live objects
	Stack uint64 `json:"stack"` // spans of goroutines' stacks
	RSS   uint64 `json:"rss"`   // resident, after what is free was given back to the system
}

// Serve is the child's whole program: it runs the server that the parent asks for. It returns when the parent has gone or closed the child.
func Serve() error {
	out := json.NewEncoder(os.NewFile(controlFD, "control"))
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	if !in.Scan() {
		return io.ErrUnexpectedEOF
	}
	var config echo.Config
	if err := json.Unmarshal(in.Bytes(), &config); err != nil {
		return fmt.Errorf("child: configuration: %w", err)
	}
	peer, err := echo.Find(config.Server)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		failed <- peer.Serve(config, func(addr net.Addr) { out.Encode(greeting{Addr: addr.String()}) })
	}()
	go func() {
		for in.Scan() {
			if in.Text() == memoryCommand {
				memory, err := measureMemory()
				if err != nil {
					failed <- err
					return
				}
				out.Encode(memory)
			}
		}
		failed <- nil
	}()
	err = <-failed
	if err != nil {
		out.Encode(greeting{Error: err.Error()})
	}
	return err
}

func measureMemory() (m Memory, err error) {
	// What finalizers free, and what pools keep over one collection, goes with the later ones.
	for range 3 {
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.Heap, m.Stack = stats.HeapAlloc, stats.StackInuse
	debug.FreeOSMemory()
	m.RSS, err = residentBytes(os.Getpid())
	return m, err
}
