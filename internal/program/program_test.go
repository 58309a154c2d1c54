package program_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"testing"

	"github.com/whorl-go/whorl/internal/program"
)

// greet is a program with a flag.
func greet(_ context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("greet", flag.ContinueOnError)
	name := flags.String("name", "you", "`who` is greeted")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	switch *name {
	case "":
		return program.Usage("-name is empty")
	case "nobody":
		return errors.New("nobody is there")
	}
	_, err := fmt.Fprintln(stdout, "hello,", *name)
	return err
}

func silent(stdout io.Writer) error {
	_, err := fmt.Fprintln(stdout, "done")
	return err
}

func TestStatus(t *testing.T) {
	plain := program.WithoutFlags("greet", silent)
	for _, test := range []struct {
		run            program.Run
		args           []string
		status         int
		stdout, stderr string
	}{
		{greet, nil, 0, "hello, you\n", ""},
		{greet, []string{"-name", "all"}, 0, "hello, all\n", ""},
		{greet, []string{"-name", "nobody"}, 1, "", "greet: nobody is there\n"},
		{greet, []string{"-name", ""}, 2, "", "greet: -name is empty; -h shows the flags\n"},
		{greet, []string{"all"}, 2, "", "greet: \"all\" is not a flag; -h shows the flags\n"},
		{greet, []string{"-name", "all", "others"}, 2, "",
			"greet: \"others\" is not a flag; -h shows the flags\n"},
		{greet, []string{"-x\x1b[2J\n"}, 2, "",
			"greet: flag provided but not defined: -x?[2J?; -h shows the flags\n"},
		{greet, []string{"-h"}, 0, "Usage of greet:\n  -name who\n" +
			"    \twho is greeted (default \"you\")\n", ""},
		{plain, nil, 0, "done\n", ""},
		{plain, []string{"x"}, 2, "", "greet: \"x\" is not a flag; -h shows the flags\n"},
		{plain, []string{"-help"}, 0, "Usage of greet:\n", ""},
	} {
		var stdout, stderr bytes.Buffer
		status := program.Status(t.Context(), "greet", test.run, test.args, &stdout, &stderr)
		if status != test.status || stdout.String() != test.stdout || stderr.String() != test.stderr {
			t.Errorf("%q: status %d, %q, %q; want %d, %q, %q", test.args,
				status, &stdout, &stderr, test.status, test.stdout, test.stderr)
		}
	}
}
