//go:build linux

package echo

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed c/echo.c
var rawSource []byte

// ErrNoCompiler says that there is no C compiler, so that the C program has to be left out.
var ErrNoCompiler = errors.New("echo: no C compiler: neither gcc nor cc is in PATH")

var raw = Peer{
	Name:  "c-epoll",
	About: "a raw epoll program in C, a thread per CPU, level-triggered",
	Plain: true,
	Build: func(dir string) (string, error) {
		compiler, err := Compiler()
		if err != nil {
			return "", err
		}
		source, program := filepath.Join(dir, "echo.c"), filepath.Join(dir, "echo")
		if err := os.WriteFile(source, rawSource, 0o600); err != nil {
			return "", err
		}
		if out, err := exec.Command(compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, source).CombinedOutput(); err != nil {
			return "", fmt.Errorf("echo: compiling the C program: %w\n%s", err, out)
		}
		return program, nil
	},
}

// Compiler returns the path of the C compiler, or ErrNoCompiler.
func Compiler() (string, error) {
	for _, name := range []string{"gcc", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoCompiler
}
