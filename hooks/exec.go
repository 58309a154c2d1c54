package hooks

import (
	"context"
	"errors"
	"os/exec"

	"github.com/whorl-go/whorl/runtime"
)

// MaxOutput is how much a command may say on standard output, and on standard error: 16 MiB each.
const MaxOutput = 16 << 20

// ErrTooMuchOutput is returned by Exec when a command says more than MaxOutput.
var ErrTooMuchOutput = errors.New("hooks: the command's output is too long")

// Output is what a command has said.
type Output struct {
	Stdout, Stderr []byte
	Code           int // -1 if it was ended by a signal, or didn't start
}

// Exec runs a command, without a shell, and waits for its end; in a coroutine that holds no loop. A code other than 0 is
// an *exec.ExitError. When ctx is done first, the command is killed, and its error is returned at once.
func Exec(ctx context.Context, name string, args ...string) (Output, error) {
	return runtime.Await(ctx, func() (Output, error) {
		var stdout, stderr output
		command := exec.CommandContext(ctx, name, args...)
		command.Stdout, command.Stderr = &stdout, &stderr
		err := command.Run()
		switch {
		case stdout.full || stderr.full: // which ends most commands by a signal
			err = ErrTooMuchOutput
		case err != nil && ctx.Err() != nil:
			err = ctx.Err()
		}
		result := Output{Stdout: stdout.said, Stderr: stderr.said, Code: -1}
		if command.ProcessState != nil {
			result.Code = command.ProcessState.ExitCode()
		}
		return result, err
	})
}

// output keeps what a command says.
type output struct {
	said []byte
	full bool
}

func (o *output) Write(p []byte) (int, error) {
	if len(o.said)+len(p) > MaxOutput {
		o.full = true
		return 0, ErrTooMuchOutput
	}
	o.said = append(o.said, p...)
	return len(p), nil
}
