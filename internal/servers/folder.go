//go:build linux

package servers

import (
	"crypto/tls"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/tlsconfig/devca"
)

// A Folder is where a server lives, with its configuration and its data. It goes with the test.
type Folder struct {
	Dir string // its path

	t     testing.TB
	owner *syscall.Credential // nil: whoever runs the tests
	env   []string            // more variables of the environment
}

// NewFolder makes a folder that other users, too, can look into, which t.TempDir's can't.
func NewFolder(t testing.TB) *Folder {
	t.Helper()
	dir, err := os.MkdirTemp("", "whorl-test-")
	leaktest.Check(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	leaktest.Check(t, os.Chmod(dir, 0o755))
	return &Folder{Dir: dir, t: t}
}

// Path returns the path of a file in the folder.
func (f *Folder) Path(name string) string { return filepath.Join(f.Dir, name) }

// Write writes a file, below folders that it makes, and returns its path.
func (f *Folder) Write(name, content string) string {
	f.t.Helper()
	return f.write(name, content, 0o644)
}

func (f *Folder) write(name, content string, mode os.FileMode) string {
	f.t.Helper()
	path := f.Path(name)
	leaktest.Check(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	leaktest.Check(f.t, os.WriteFile(path, []byte(content), mode))
	return path
}

// Certify writes ca.pem, and cert.pem and key.pem for a server at localhost.
func (f *Folder) Certify(ca *devca.CA) {
	f.t.Helper()
	chain, key, err := devca.EncodePEM(
		Sign(f.t, ca, devca.Request{Names: []string{"localhost", "127.0.0.1"}}),
	)
	leaktest.Check(f.t, err)
	f.Write("ca.pem", string(ca.PEM()))
	f.Write("cert.pem", string(chain))
	f.write("key.pem", string(key), 0o600) // PostgreSQL insists
}

// RunBy has the servers of the folder run by a user, if root runs the tests, and gives the folder
// to him, with all that is in it. Some servers insist on not being root.
func (f *Folder) RunBy(user string) {
	f.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	f.owner = lookup(f.t, user)
	err := filepath.WalkDir(f.Dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(f.owner.Uid), int(f.owner.Gid))
	})
	leaktest.Check(f.t, err)
}

// Give gives one file to a user.
func (f *Folder) Give(name, user string) {
	f.t.Helper()
	u := lookup(f.t, user)
	leaktest.Check(f.t, os.Chown(f.Path(name), int(u.Uid), int(u.Gid)))
}

func lookup(t testing.TB, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("%v: .ci/run says what to install", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	leaktest.Check(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	leaktest.Check(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Set sets a variable, "NAME=value", in the environment of programs that run in the folder.
func (f *Folder) Set(variable string) { f.env = append(f.env, variable) }

// command is a program that runs in the folder.
func (f *Folder) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = f.Dir
	cmd.Env = append(append(os.Environ(), "HOME="+f.Dir, "LC_ALL=C"), f.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: f.owner}
	return cmd
}

// Run runs a program to its end, which has to be a good one.
func (f *Folder) Run(program string, args ...string) {
	f.t.Helper()
	if out, err := f.command(program, args...).CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Start starts a server in the folder.
func (f *Folder) Start(program string, args ...string) *Process {
	f.t.Helper()
	return start(f.t, f.command(program, args...))
}

// NewCA returns a certification authority for a test.
func NewCA(t testing.TB) *devca.CA {
	t.Helper()
	ca, err := devca.New("Whorl test CA")
	leaktest.Check(t, err)
	return ca
}

// Sign has an authority sign a certificate.
func Sign(t testing.TB, ca *devca.CA, request devca.Request) tls.Certificate {
	t.Helper()
	certificate, err := ca.Sign(request)
	leaktest.Check(t, err)
	return certificate
}
