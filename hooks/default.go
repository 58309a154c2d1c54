package hooks

import (
	"github.com/whorl-go/whorl/internal/fallback"
	"github.com/whorl-go/whorl/runtime"
)

// Default returns the runtime that connections live on when nothing else says where: a dial or
// listen from a plain goroutine, with a context that comes from no runtime, in a process in which
// none runs, or several. It is started by the first call, and runs until somebody calls its
// Shutdown; the next call then starts another.
//
// A process that has runtimes of its own is better off naming one: by the context, or in the field
// Runtime. For as long as the default one runs, it counts as one that runs in the process, so
// package runtime's check for deadlocks can't be sure of any, and a context without a runtime is
// not enough any more where one is needed.
func Default() (*runtime.Runtime, error) { return fallback.Runtime() }
