package tlsconfig

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/whorl-go/whorl/internal/text"
	"github.com/whorl-go/whorl/tlsconfig/explain"
)

// maxFile is more than any file of certificates has. Whoever names a log or a device by mistake
// hears of it.
const maxFile = 16 << 20

// readFile returns what is in a regular file. Its errors are *CertificateError, with an
// *fs.PathError below.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before opening: to open a pipe would wait for a writer
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(data) > maxFile {
		return nil, &CertificateError{
			Reason: explain.ReasonFileUnreadable, File: path, Detail: fmt.Sprintf("it is larger than %d MiB", maxFile>>20), Advice: "is it the right file?",
		}
	}
	return data, nil
}

func notRegular(path string, info fs.FileInfo) error {
	what := "no regular file"
	if info.IsDir() {
		what = "is a directory"
	}
	err := &fs.PathError{Op: "read", Path: path, Err: errors.New(what)}
	return &CertificateError{
		Reason: explain.ReasonFileUnreadable,
		File:   path,
		Detail: what,
		Advice: "name a file in PEM",
		Err:    err,
	}
}

// fileError explains why a file, or a directory of authorities, could not be read.
func fileError(path string, err error) *CertificateError {
	e := &CertificateError{
		Reason: explain.ReasonFileUnreadable,
		File:   path,
		Detail: text.Printable(err.Error(), text.MaxText),
		Err:    err,
	}
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		e.Detail = cause.Err.Error() // the path is in the error already
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Reason = explain.ReasonFileMissing
		e.Advice = "correct the path; a relative one is relative to the directory in which the program was started"
		if target, linkErr := os.Readlink(path); linkErr == nil {
			e.Advice = "it is a link to " + text.Quoted(target) + ", which is not there"
		}
	case errors.Is(err, fs.ErrPermission):
		e.Detail += " (as user " + userName(os.Geteuid()) + "; " + barrier(path) + ")"
		e.Advice = "let this user read the file and pass the directories above it, or read it before giving up root"
	}
	return e
}

// barrier says whose the file is, or the innermost directory above it that can be looked at.
func barrier(path string) string {
	what := ""
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	for {
		if info, err := os.Stat(path); err == nil {
			return what + text.Printable(
				path,
				text.MaxText,
			) + " is " + info.Mode().
				String() +
				owner(
					info,
				)
		}
		parent := filepath.Dir(path)
		if parent == path {
			return "no directory above it can be looked at"
		}
		path, what = parent, "the directory "
	}
}

// userName returns a user's id, with the name where there is one.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return id + ", " + text.Printable(u.Username, text.MaxName)
	}
	return id
}

// readAuthorities returns the certificates in a file, of which there is at least one.
func readAuthorities(path string) ([]*x509.Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseAuthorities(path, data)
}

// parseAuthorities returns the certificates in data that can be read. Bundles of authorities have
// others among them, with negative serial numbers for example, that must not spoil the rest.
func parseAuthorities(file string, data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	var first error
	for i, der := range pemBlocks(data, certificateBlock) {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			all = append(all, cert)
		} else if first == nil {
			first = unreadable(file, i, err)
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case first != nil:
		return nil, first
	}
	return nil, &CertificateError{
		Reason: explain.ReasonNotPEM,
		File:   file,
		Detail: "no certificate: " + contents(data),
		Advice: pemAdvice(data, "x509"),
	}
}

// readAuthoritiesIn returns the certificates in the files of a directory, of which there is at
// least one. Files without any are passed over.
func readAuthoritiesIn(dir string) ([]*x509.Certificate, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fileError(dir, err)
	}
	var all []*x509.Certificate
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path) // follows the links that such directories are full of
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // a link to nowhere, a folder, a pipe that would block
		}
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		// Else a list of revocations or the like.
		if certs, err := parseAuthorities(path, data); err == nil {
			all = append(all, certs...)
		}
	}
	if all == nil {
		return nil, &CertificateError{
			Reason: explain.ReasonNotPEM,
			File:   dir,
			Detail: "no file in it has a certificate in PEM",
		}
	}
	return all, nil
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}
