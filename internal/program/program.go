// Package program is the frame of our small programs, the examples: flags, signals, errors, the
// exit status.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// Run is a program without its main. It returns the error of [Parse] as it is.
type Run func(ctx context.Context, args []string, stdout io.Writer) error

// Main is main: it runs a program and ends the process.
func Main(name string, run Run) {
	os.Exit(Status(context.Background(), name, run, os.Args[1:], os.Stdout, os.Stderr))
}

// Status runs a program and returns its exit status: 0 if all went well or help was asked for, 2 if
// the arguments make no sense, which is one line on stderr, and 1 for any other error, which is on
// stderr, too.
func Status(
	ctx context.Context, name string, run Run, args []string, stdout, stderr io.Writer,
) int {
	err := run(ctx, args, stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "%s: %s; -h shows the flags\n", name, oneLine(err.Error()))
		return 2
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return 1
}

// oneLine keeps what somebody has put into an argument from moving the cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// errUsage is in errors about arguments.
var errUsage = errors.New("usage")

type usageError struct{ error }

func (usageError) Is(target error) bool { return target == errUsage }

// Usage makes an error about arguments, as fmt.Errorf does.
func Usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Parse parses the flags. It is an error if something is left behind them. The error is for Status,
// also when it is flag.ErrHelp: then Parse has printed the flags.
func Parse(flags *flag.FlagSet, args []string, stdout io.Writer) error {
	flags.SetOutput(io.Discard) // it would print errors, and all flags with each
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "Usage of %s:\n", flags.Name())
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return err
	case err != nil:
		return Usage("%w", err)
	case flags.NArg() > 0:
		return Usage("%q is not a flag", flags.Arg(0))
	}
	return nil
}

// WithoutFlags makes a Run of a program that has no flags.
func WithoutFlags(name string, run func(stdout io.Writer) error) Run {
	return func(_ context.Context, args []string, stdout io.Writer) error {
		if err := Parse(flag.NewFlagSet(name, flag.ContinueOnError), args, stdout); err != nil {
			return err
		}
		return run(stdout)
	}
}
