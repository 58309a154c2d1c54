//go:build linux

package child

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/whorl-go/whorl/internal/bench/proc"
)

// controlFD is the descriptor that a child answers on. Standard output is left to the libraries,
// some of which log there.
const controlFD = 3

// The protocol: the parent writes a line with the configuration to the child's standard input, the
// child answers with a greeting when it is ready. From then on each line is a command, which is
// answered with an answer. The child ends when its standard input does, so that it can't outlive
// its parent.
type (
	greeting struct {
		Addr  string `json:"addr,omitempty"`
		Error string `json:"error,omitempty"`
	}
	answer struct {
		Error  string          `json:"error,omitempty"`
		Result json.RawMessage `json:"result,omitempty"`
	}
)

const memoryCommand = "memory"

// Control is the child's side of the protocol.
type Control struct {
	in       *bufio.Scanner
	out      *json.Encoder
	commands map[string]func(arguments string) (result any, err error)
	ended    chan error
}

// Serve is the child's whole program: it runs main with the configuration. It returns when main
// does, or when the parent has gone or ended the child.
func Serve(main func(config []byte, c *Control) error) error {
	c := &Control{in: bufio.NewScanner(os.Stdin),
		out: json.NewEncoder(os.NewFile(controlFD, "control")), ended: make(chan error, 2)}
	c.commands = map[string]func(string) (any, error){
		memoryCommand: func(string) (any, error) { return proc.TakeMemory(), nil },
	}
	c.in.Buffer(nil, 1<<20)
	if !c.in.Scan() {
		return io.ErrUnexpectedEOF
	}
	config := append([]byte(nil), c.in.Bytes()...)
	go func() { c.ended <- main(config, c) }()
	err := <-c.ended
	if err != nil {
		c.out.Encode(greeting{Error: err.Error()})
	}
	return err
}

// Handle has a command answered: it is called with what follows the command's name. It is for use
// before Ready.
func (c *Control) Handle(command string, fn func(arguments string) (result any, err error)) {
	c.commands[command] = fn
}

// Listening is Ready for a server.
func (c *Control) Listening(addr net.Addr) { c.Ready(addr.String()) }

// Ready tells the parent that the child is ready, and begins to answer commands, one after the
// other.
func (c *Control) Ready(addr string) {
	c.out.Encode(greeting{Addr: addr})
	commands := make(chan string)
	go func() {
		for line := range commands {
			c.out.Encode(c.answer(line))
		}
	}()
	// This one notices that the parent has gone, even if a command doesn't return.
	go func() {
		for c.in.Scan() {
			commands <- c.in.Text()
		}
		c.ended <- nil
	}()
}

func (c *Control) answer(line string) (a answer) {
	name, arguments, _ := strings.Cut(line, " ")
	fn := c.commands[name]
	if fn == nil {
		return answer{Error: fmt.Sprintf("%q is no command", line)}
	}
	result, err := fn(arguments)
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
