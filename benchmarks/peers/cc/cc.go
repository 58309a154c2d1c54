//go:build linux

// Package cc compiles the C programs that show what the kernel allows.
package cc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoCompiler says that there is no C compiler, so that the C programs have to be left out.
var ErrNoCompiler = errors.New("cc: no C compiler: neither gcc nor cc is in PATH")

// Build compiles a program of one source into dir, and returns its path.
func Build(dir, name string, source []byte) (path string, err error) {
	compiler, err := find()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	file := path + ".c"
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command(compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o",
		path, file).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cc: compiling %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// Version returns what the compiler says about itself, or ErrNoCompiler.
func Version() (string, error) {
	path, err := find()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(path, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line, err
}

func find() (path string, err error) {
	for _, name := range []string{"gcc", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoCompiler
}
