//go:build linux

package servers

import (
	"bufio"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
)

// A Server is one that runs: where, and what a client needs. It asks for TLS on the same port, or on one of its own.
type Server struct {
	Addr    string // host:port
	TLSAddr string // host:port for TLS from the first byte on, if that is another one
	User    string
	CA      string      // file
	TLS     *tls.Config // for clients
	Dir     string      // with the server's data
}

func (h *home) server(addr, user string) *Server {
	return &Server{Addr: addr, User: user, CA: h.path("ca.pem"), TLS: h.clientTLS(), Dir: h.dir}
}

// StartPostgres starts PostgreSQL with a database "postgres" that User needs no password for. It insists on not being root.
func StartPostgres(t testing.TB) *Server {
	t.Helper()
	const programs = "/usr/lib/postgresql/*/bin"
	h := newHome(t, "postgres")
	addr, port := freeAddress(t)
	data := h.path("data")
	h.prepare(find(t, "initdb", programs), "-D", data, "-U", "whorl", "-A", "trust", "--no-sync", "-E", "UTF8")
	args := []string{"-D", data, "-p", port, "-k", ""}
	for _, setting := range []string{"listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB", "max_connections=60", "ssl=on",
		"ssl_cert_file=" + h.path("cert.pem"), "ssl_key_file=" + h.path("key.pem")} {
		args = append(args, "-c", setting)
	}
	over := h.serve(syscall.SIGQUIT, find(t, "postgres", programs), args...)
	s := h.server(addr, "whorl")
	h.eventually(over, func() error { return ping("pgx", s.PostgresURL(addr)+"?sslmode=disable") })
	return s
}

// PostgresURL returns the server's URL as pgx takes it, without a query, as if the server were at an address.
func (s *Server) PostgresURL(addr string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres", s.User, addr)
}

// StartMariaDB starts MariaDB with a database "test" that User needs no password for.
func StartMariaDB(t testing.TB) *Server {
	t.Helper()
	h := newHome(t, "mysql")
	addr, port := freeAddress(t)
	data := h.path("data")
	h.prepare(find(t, "mariadb-install-db", "/usr/bin"), "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal",
		"--skip-name-resolve", "--skip-test-db")
	init := h.path("init.sql")
	if err := os.WriteFile(init, []byte("CREATE DATABASE test;\nCREATE USER whorl@'%';\nGRANT ALL ON test.* TO whorl@'%';\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	over := h.serve(syscall.SIGTERM, find(t, "mariadbd", "/usr/sbin"), "--no-defaults", "--datadir="+data, "--port="+port, "--bind-address=127.0.0.1",
		"--socket="+h.path("sock"), "--pid-file="+h.path("pid"), "--init-file="+init, "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0",
		"--innodb-buffer-pool-size=16M", "--ssl-cert="+h.path("cert.pem"), "--ssl-key="+h.path("key.pem"), "--ssl-ca="+h.path("ca.pem"))
	s := h.server(addr, "whorl")
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName, config.Logger = s.User, "tcp", addr, "test", &mysql.NopLogger{}
	h.eventually(over, func() error { return ping("mysql", config.FormatDSN()) })
	return s
}

func ping(driver, dsn string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping()
}

// StartRedis starts Redis, which keeps its data in memory only, with TLS on TLSAddr.
func StartRedis(t testing.TB) *Server {
	t.Helper()
	h := newHome(t, "redis")
	addr, port := freeAddress(t)
	tlsAddr, tlsPort := freeAddress(t)
	over := h.serve(syscall.SIGTERM, find(t, "redis-server"), "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", h.dir,
		"--tls-port", tlsPort, "--tls-cert-file", h.path("cert.pem"), "--tls-key-file", h.path("key.pem"), "--tls-ca-cert-file", h.path("ca.pem"),
		"--tls-auth-clients", "no")
	h.eventually(over, func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "PING\r\n")
		answer, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && answer != "+PONG\r\n" {
			err = fmt.Errorf("it answers %q", answer)
		}
		return err
	})
	s := h.server(addr, "")
	s.TLSAddr = tlsAddr
	return s
}
