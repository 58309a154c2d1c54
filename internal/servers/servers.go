//go:build linux

// Package servers starts real servers for tests: PostgreSQL, MariaDB, Redis, Postfix, Exim,
// Dovecot, vsftpd, slapd, Prosody, INN, InspIRCd, or any other program. Each has a folder of its
// own and listens on the loopback only. It ends with the test, or with the test's process if that
// comes first, and its folder goes with the test. Debian has them in the packages that .ci/run
// installs.
//
// Where one is missing the test fails: whoever asks for such tests wants to know. The tests may be
// run by root or by anybody else; servers of mail, files, news, chat and directories want root.
package servers

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

// patience is how long a server may take to start or to end on a busy machine.
const patience = 2 * leaktest.Patience

// Find returns the path of a program. It looks into folders first, which may be patterns for
// [filepath.Glob], and then where the shell does.
func Find(t testing.TB, name string, folders ...string) string {
	t.Helper()
	for _, folder := range append(folders, "/usr/sbin") { // which isn't in everybody's PATH
		if found, _ := filepath.Glob(filepath.Join(folder, name)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: .ci/run says what to install", err)
	}
	return path
}

// FreeAddress returns an address of the loopback on which nobody listens, and its port. It is below
// those that the kernel gives to whoever doesn't ask for one, so that nobody gets it by chance
// before the server does; nor does anybody get it from this function until the test ends.
func FreeAddress(t testing.TB) (addr, port string) {
	t.Helper()
	for range 100 {
		port = strconv.Itoa(20_000 + rand.IntN(12_000))
		// Names are as common to all processes as ports are.
		taken, err := net.Listen("unix", "@whorl-test-port-"+port)
		if err != nil {
			continue
		}
		addr = net.JoinHostPort("127.0.0.1", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			taken.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { taken.Close() })
		return addr, port
	}
	t.Fatal("no port is free")
	return "", ""
}

// A Server is one that runs, with all that a client needs.
type Server struct {
	*Folder
	// Host:port, in plaintext and, unless there is a TLSAddr, for TLS when the client asks for it.
	Addr    string
	TLSAddr string      // host:port for TLS from the first byte on, if that is another one
	User    string      // that needs no password, if there is one
	TLS     *tls.Config // for clients that shall trust the server
}

// database makes the folder of a server that clients trust by its TLS, and that the user of this
// name runs.
func database(t testing.TB, user string) (s *Server, port string) {
	t.Helper()
	ca := NewCA(t)
	f := NewFolder(t)
	f.Certify(ca)
	f.RunBy(user)
	addr, port := FreeAddress(t)
	return &Server{
		Folder: f,
		Addr:   addr,
		TLS:    &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"},
	}, port
}

// StartPostgres starts PostgreSQL with a database "postgres".
func StartPostgres(t testing.TB) *Server {
	t.Helper()
	const programs = "/usr/lib/postgresql/*/bin" // of Debian; in nobody's PATH
	s, port := database(t, "postgres")
	s.User = "whorl"
	s.Run(
		Find(t, "initdb", programs),
		"-D",
		s.Path("data"),
		"-U",
		s.User,
		"-A",
		"trust",
		"--no-sync",
		"-E",
		"UTF8",
	)
	args := []string{"-D", s.Path("data"), "-p", port, "-k", ""}
	for _, setting := range []string{"listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB", "max_connections=60", "ssl=on",
		"ssl_cert_file=" + s.Path("cert.pem"), "ssl_key_file=" + s.Path("key.pem")} {
		args = append(args, "-c", setting)
	}
	// By SIGTERM it would wait for the clients to go.
	s.Start(Find(t, "postgres", programs), args...).
		EndBy(syscall.SIGQUIT).
		Expect("database system is ready to accept connections")
	return s
}

// PostgresURL returns the URL of StartPostgres's database, without a query, as if the server were
// at an address.
func (s *Server) PostgresURL(addr string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres", s.User, addr)
}

// StartMariaDB starts MariaDB with a database "test".
func StartMariaDB(t testing.TB) *Server {
	t.Helper()
	s, port := database(t, "mysql")
	s.User = "whorl"
	data := "--datadir=" + s.Path("data")
	s.Run(
		Find(t, "mariadb-install-db"),
		"--no-defaults",
		data,
		"--auth-root-authentication-method=normal",
		"--skip-name-resolve",
		"--skip-test-db",
	)
	init := s.Write(
		"init.sql",
		fmt.Sprintf(
			"CREATE DATABASE test;\nCREATE USER %s@'%%';\nGRANT ALL ON test.* TO %[1]s@'%%';\n",
			s.User,
		),
	)
	s.Start(Find(t, "mariadbd"), "--no-defaults", data, "--port="+port, "--bind-address=127.0.0.1", "--socket="+s.Path("sock"), "--pid-file="+s.Path("pid"),
		"--init-file="+init, "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M",
		"--ssl-cert="+s.Path("cert.pem"),
		"--ssl-key="+s.Path("key.pem"), "--ssl-ca="+s.Path("ca.pem")).
		Expect("ready for connections")
	return s
}

// StartRedis starts Redis, which keeps its data in memory only, with TLS on TLSAddr.
func StartRedis(t testing.TB) *Server {
	t.Helper()
	s, port := database(t, "redis")
	var tlsPort string
	s.TLSAddr, tlsPort = FreeAddress(t)
	s.Start(Find(t, "redis-server"), "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", s.Dir,
		"--tls-port", tlsPort, "--tls-cert-file", s.Path("cert.pem"), "--tls-key-file", s.Path("key.pem"), "--tls-ca-cert-file", s.Path("ca.pem"),
		"--tls-auth-clients", "no").
		Expect("Ready to accept connections")
	return s
}
