// Command whorl is the tool for those who run servers: whorl bench measures them, whorl probe says
// why TLS with them fails, whorl mail sends a message.
//
//	whorl probe --starttls smtp mail.example.com:587
//	whorl mail --server mail.example.com:587 --from me@example.com --to you@example.com
//	whorl bench handshake -c 50 -d 10s --starttls smtp mail.example.com:587
//	whorl bench serve --starttls smtp --ca-out ca.pem
//
// It exits with 2 if it was called wrongly, with 1 if what it was to do has failed; whorl probe and
// whorl mail with 3 if they were called wrongly, and with 2 if the server can't be reached.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/internal/bench/report"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/probe"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, _ := program.Interrupted(context.Background())
	os.Exit(execute(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// execute runs a command line and returns the exit code.
func execute(
	ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer,
) int {
	root := &cobra.Command{
		Use: "whorl", Short: "tools for servers and protocols with very many connections",
		Version: report.Version(), SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(benchCommand(args), probeCommand(), mailCommand())
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[statusError](err); ok {
		return int(status)
	}
	fmt.Fprintf(stderr, "%s: %v\n", command.CommandPath(), err)
	if failed, ok := errors.AsType[*failedError](err); ok && failed != nil {
		return exitFailed
	}
	fmt.Fprintf(stderr, "See %s --help.\n", command.CommandPath())
	if hasOwnStatuses(command) {
		return probe.ExitUsage
	}
	return exitUsage
}

// usageError is of a command line that can't be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// failedError is of a command that was understood, and has failed.
type failedError struct{ err error }

func (e *failedError) Error() string { return e.err.Error() }
func (e *failedError) Unwrap() error { return e.err }

// failed marks an error as one that is not the command line's fault.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failedError{err}
}
