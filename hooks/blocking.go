package hooks

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/whorl-go/whorl/runtime"
)

// The functions of this file are for coroutines, which must not block their loop: they do their work on a goroutine of runtime.Await. From a plain goroutine
// they simply do it. When ctx is done first they return its error at once, and what they had begun ends on its own.

// Sleep waits for d, see runtime.Sleep.
func Sleep(ctx context.Context, d time.Duration) error { return runtime.Sleep(ctx, d) }

// LookupHost returns the addresses of a host, see net.Resolver.
func LookupHost(ctx context.Context, host string) ([]string, error) {
	return runtime.Await(ctx, func() ([]string, error) { return net.DefaultResolver.LookupHost(ctx, host) })
}

// LookupNetIP returns the addresses of a host, those of "ip4", of "ip6", or all of "ip".
func LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return runtime.Await(ctx, func() ([]netip.Addr, error) { return net.DefaultResolver.LookupNetIP(ctx, network, host) })
}

// LookupAddr returns the names of an address.
func LookupAddr(ctx context.Context, address string) ([]string, error) {
	return runtime.Await(ctx, func() ([]string, error) { return net.DefaultResolver.LookupAddr(ctx, address) })
}

// LookupMX returns the mail exchangers of a domain, the most preferred first.
func LookupMX(ctx context.Context, domain string) ([]*net.MX, error) {
	return runtime.Await(ctx, func() ([]*net.MX, error) { return net.DefaultResolver.LookupMX(ctx, domain) })
}

// LookupTXT returns the TXT records of a domain.
func LookupTXT(ctx context.Context, domain string) ([]string, error) {
	return runtime.Await(ctx, func() ([]string, error) { return net.DefaultResolver.LookupTXT(ctx, domain) })
}

// LookupSRV returns the servers of a service, in the order in which to try them; see net.Resolver for service, proto and name.
func LookupSRV(ctx context.Context, service, proto, name string) ([]*net.SRV, error) {
	return runtime.Await(ctx, func() ([]*net.SRV, error) {
		_, servers, err := net.DefaultResolver.LookupSRV(ctx, service, proto, name)
		return servers, err
	})
}

// ReadFile reads a whole file.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	return runtime.Await(ctx, func() ([]byte, error) { return os.ReadFile(name) })
}

// WriteFile writes a whole file, see os.WriteFile. When ctx is done first, it may still be written.
func WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	if runtime.Current(ctx) != nil {
		data = bytes.Clone(data) // the caller may use data again as soon as ctx has let it go
	}
	_, err := runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, os.WriteFile(name, data, perm) })
	return err
}

// MaxOutput is how much a command may say on standard output, and on standard error: 16 MiB each.
const MaxOutput = 16 << 20

// ErrTooMuchOutput is returned by Exec when a command says more than MaxOutput.
var ErrTooMuchOutput = errors.New("hooks: the command's output is too long")

// Output is what a command has said.
type Output struct {
	Stdout, Stderr []byte
	Code           int // -1 if it was ended by a signal, or didn't start
}

// Exec runs a command, without a shell, and waits for its end. A code other than 0 is an *exec.ExitError. When ctx is done first, the command is killed.
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
