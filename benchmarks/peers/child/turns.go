//go:build linux

package child

import "strconv"

// Commands of a process that works in turns, beside those that every child has.
const (
	startCommand = "start"
	stopCommand  = "stop"
	openCommand  = "open" // followed by the number of connections to open
)

// Turns is what a process does that works in turns, with connections that stay. Its methods are for
// one goroutine at a time.
type Turns interface {
	// Open opens more connections, and has what the work needs at hand.
	Open(n int) error
	// Start begins a turn.
	Start() error
	// Stop ends it: it waits for what is outstanding, and returns what went wrong.
	Stop() error
}

// HandleTurns has the commands of such a process answered. It is for use before Ready.
func (c *Control) HandleTurns(t Turns) {
	c.Handle(startCommand, func(string) (any, error) { return nil, t.Start() })
	c.Handle(stopCommand, func(string) (any, error) { return nil, t.Stop() })
	c.HandleOpen(t.Open)
}

// HandleOpen has OpenMore answered by a process whose connections stay and that has no turns.
func (c *Control) HandleOpen(open func(n int) error) {
	c.Handle(openCommand, func(arguments string) (any, error) {
		n, err := strconv.Atoi(arguments)
		if err != nil {
			return nil, err
		}
		return nil, open(n)
	})
}

// StartTurn has a process that works in turns begin one, see [Turns].
func (c *Child) StartTurn() error { return c.Command(startCommand, nil) }

// StopTurn has it end the turn.
func (c *Child) StopTurn() error { return c.Command(stopCommand, nil) }

// OpenMore has it open n more connections.
func (c *Child) OpenMore(n int) error { return c.Command(openCommand+" "+strconv.Itoa(n), nil) }
