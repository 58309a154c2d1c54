//go:build linux && interop

package dropin

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
)

// A database is what the tests have to know about one: how to open it over the Dialer, and its SQL.
type database struct {
	*servers.Server
	open   func(addr string, config *tls.Config) (*sql.DB, error)
	insert string // with one parameter
	create string // of the table numbers
	sleep  string // a statement that takes a minute
	active string // a query for how often a statement runs, with one parameter
	cipher string // a query for what encrypts the connection; its result is empty if nothing does
}

func postgres(t testing.TB) *database {
	s := servers.StartPostgres(t)
	return &database{
		Server: s,
		open: func(addr string, secure *tls.Config) (*sql.DB, error) {
			config, err := pgx.ParseConfig(s.PostgresURL(addr) + "?sslmode=disable")
			if err != nil {
				return nil, err
			}
			config.DialFunc, config.TLSConfig = new(hooks.Dialer).DialContext, secure
			return stdlib.OpenDB(*config), nil
		},
		insert: "INSERT INTO numbers VALUES ($1)",
		create: "CREATE TABLE numbers (n BIGINT PRIMARY KEY)",
		sleep:  "SELECT pg_sleep(60)",
		active: "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'active' AND query = $1",
		cipher: "SELECT coalesce(cipher, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
	}
}

func mariadb(t testing.TB) *database {
	s := servers.StartMariaDB(t)
	return &database{
		Server: s,
		open: func(addr string, secure *tls.Config) (*sql.DB, error) {
			config := mysql.NewConfig()
			config.User, config.Net, config.Addr, config.DBName, config.TLS = s.User, "tcp", addr, "test", secure
			config.DialFunc, config.Logger = new(hooks.Dialer).DialContext, log.New(io.Discard, "", 0)
			connector, err := mysql.NewConnector(config)
			if err != nil {
				return nil, err
			}
			return sql.OpenDB(connector), nil
		},
		insert: "INSERT INTO numbers VALUES (?)",
		create: "CREATE TABLE numbers (n BIGINT PRIMARY KEY) ENGINE=InnoDB",
		sleep:  "SELECT SLEEP(60)",
		active: "SELECT COUNT(*) FROM information_schema.processlist WHERE info = ?",
		cipher: "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
	}
}

// begin opens the database at an address and makes an empty table. end closes it; it takes leave of
// the server, for which the runtime has to be there.
func (d *database) begin(ctx context.Context, t *testing.T, addr string) (db *sql.DB, end func()) {
	t.Helper()
	db, err := d.open(addr, nil)
	check(t, err)
	check(t, execute(ctx, db, "DROP TABLE IF EXISTS numbers"))
	check(t, execute(ctx, db, d.create))
	return db, func() { check(t, await(ctx, db.Close)) }
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// execute is for statements without a result. database/sql waits on mutexes and channels, so
// coroutines call it by Await.
func execute(ctx context.Context, db execer, query string, args ...any) error {
	return await(ctx, func() error {
		_, err := db.ExecContext(ctx, query, args...)
		return err
	})
}

// value returns the only value of a query's result.
func value[T any](ctx context.Context, db *sql.DB, query string, args ...any) (T, error) {
	return runtime.Await(ctx, func() (v T, err error) {
		err = db.QueryRowContext(ctx, query, args...).Scan(&v)
		return v, err
	})
}

// sleeping begins a statement that takes a minute, and returns when it runs. The function that it
// returns waits for its end.
func (d *database) sleeping(ctx, until context.Context, t *testing.T, db execer) (wait func() error) {
	t.Helper()
	statement := fmt.Sprintf("%s /* %d */", d.sleep, time.Now().UnixNano()) // a name of its own
	wait = beside(ctx, t, func(ctx context.Context) error { return execute(until, db, statement) })
	observer, err := d.open(d.Addr, nil)
	check(t, err)
	awaitUntil(ctx, t, "the statement runs", func() bool {
		n, err := value[int](ctx, observer, d.active, statement)
		check(t, err)
		return n == 1
	})
	check(t, await(ctx, observer.Close))
	return wait
}

// awaitUntil is until for a test that may be a coroutine.
func awaitUntil(ctx context.Context, t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so within %v: %s", patience, what)
		}
		check(t, runtime.Sleep(ctx, 5*time.Millisecond))
	}
}

const countNumbers = "SELECT COUNT(*) FROM numbers"

func TestPostgres(t *testing.T) { testSQL(t, postgres(t)) }
func TestMariaDB(t *testing.T)  { testSQL(t, mariadb(t)) }

func testSQL(t *testing.T, d *database) {
	for name, test := range map[string]func(*database, context.Context, *testing.T){
		"transactions":                  (*database).testTransactions,
		"many rows":                     (*database).testManyRows,
		"TLS":                           (*database).testTLS,
		"statements end with a context": (*database).testContext,
		"connections are cut":           (*database).testCut,
		"a full pool":                   (*database).testFullPool,
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(d, ctx, t) })
		})
	}
	t.Run("forgotten Await", d.testForgottenAwait)
}

// Of transactions that are made at once, the committed ones count, and only they.
func (d *database) testTransactions(ctx context.Context, t *testing.T) {
	db, end := d.begin(ctx, t, d.Addr)
	defer end()
	const callers, each = 6, 10
	check(t, many(ctx, callers, func(ctx context.Context, i int) error {
		for n := range each {
			err := await(ctx, func() error { // a whole transaction, lest its end be forgotten when ctx is done
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				for range 2 {
					if _, err := tx.ExecContext(ctx, d.insert, i*1000+n); err != nil {
						return nil // the second one has the same key
					}
					if n%2 == 0 {
						return tx.Commit()
					}
				}
				return errors.New("a key was taken twice")
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	got, err := value[int](ctx, db, countNumbers)
	if err != nil || got != callers*each/2 {
		t.Errorf("%d rows, %v; want %d", got, err, callers*each/2)
	}
}

func (d *database) testManyRows(ctx context.Context, t *testing.T) {
	const rows = 20_000
	db, end := d.begin(ctx, t, d.Addr)
	defer end()
	var values []string
	for n := range rows {
		values = append(values, fmt.Sprintf("(%d)", n))
	}
	check(t, execute(ctx, db, "INSERT INTO numbers VALUES "+strings.Join(values, ",")))
	sum, err := runtime.Await(ctx, func() (sum int, err error) {
		result, err := db.QueryContext(ctx, "SELECT n FROM numbers ORDER BY n")
		if err != nil {
			return 0, err
		}
		defer result.Close()
		for result.Next() {
			var n int
			if err := result.Scan(&n); err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, result.Err()
	})
	if err != nil || sum != rows*(rows-1)/2 {
		t.Errorf("the sum is %d, %v", sum, err)
	}
}

func (d *database) testTLS(ctx context.Context, t *testing.T) {
	for _, config := range []*tls.Config{nil, d.TLS} {
		db, err := d.open(d.Addr, config)
		check(t, err)
		cipher, err := value[string](ctx, db, d.cipher)
		check(t, err)
		if (cipher != "") != (config != nil) {
			t.Errorf("the cipher is %q", cipher)
		}
		check(t, await(ctx, db.Close))
	}
	db, err := d.open(d.Addr, &tls.Config{ServerName: "localhost"})
	check(t, err)
	_, err = value[string](ctx, db, d.cipher)
	wantText(t, "nobody trusts the authority", fmt.Sprint(err), "unknown authority")
	check(t, await(ctx, db.Close))
}

func (d *database) testContext(ctx context.Context, t *testing.T) {
	db, end := d.begin(ctx, t, d.Addr)
	defer end()
	late, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	wantError(t, "late", execute(late, db, d.sleep), context.DeadlineExceeded)

	cancelled, cancel := context.WithCancel(ctx)
	over := d.sleeping(ctx, cancelled, t, db)
	cancel()
	wantError(t, "cancelled", over(), context.Canceled)
	check(t, execute(ctx, db, d.insert, 1))
}

// A connection that is cut in the middle of a statement is an error of that one; the next one gets
// a new connection. What was not committed is not there.
func (d *database) testCut(ctx context.Context, t *testing.T) {
	p := proxy(t, d.Addr)
	db, end := d.begin(ctx, t, p.Addr())
	defer end()
	conn, err := runtime.Await(ctx, func() (*sql.Conn, error) { return db.Conn(ctx) }) // by itself, database/sql would try again
	check(t, err)
	over := d.sleeping(ctx, ctx, t, conn)
	p.CutAll()
	if err := over(); err == nil {
		t.Error("a statement has survived that its connection was cut")
	}
	await(ctx, conn.Close) // says that it was cut

	check(t, execute(ctx, db, d.insert, 1))
	err = await(ctx, func() error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil // the test wants an error below
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, d.insert, 2); err != nil {
			return nil
		}
		p.CutAll()
		return tx.Commit()
	})
	if err == nil {
		t.Error("no error of Commit over a connection that was cut")
	}
	got, err := value[int](ctx, db, countNumbers)
	if err != nil || got != 1 {
		t.Errorf("%d rows, %v; want 1", got, err)
	}
}

// Many callers share few connections. They wait for each other on Go channels, on which Await
// waits.
func (d *database) testFullPool(ctx context.Context, t *testing.T) {
	db, end := d.begin(ctx, t, d.Addr)
	defer end()
	db.SetMaxOpenConns(2)
	check(t, many(ctx, 20, func(ctx context.Context, i int) error { return execute(ctx, db, d.insert, i) }))
	got, err := value[int](ctx, db, countNumbers)
	if err != nil || got != 20 {
		t.Errorf("%d rows, %v; want 20", got, err)
	}
}

// Who waits for a connection of a full pool without Await holds the loop, and with it the coroutine
// that has the connection.
func (d *database) testForgottenAwait(t *testing.T) {
	forgotten(t, "database/sql.(*DB).conn", func(ctx context.Context, t *testing.T) func(ctx context.Context) error {
		db, end := d.begin(ctx, t, d.Addr)
		runtime.Defer(ctx, func(context.Context) { end() })
		db.SetMaxOpenConns(1)
		conn, err := runtime.Await(ctx, func() (*sql.Conn, error) { return db.Conn(ctx) })
		check(t, err)
		runtime.Defer(ctx, func(ctx context.Context) { check(t, await(ctx, conn.Close)) })
		return func(ctx context.Context) error { return db.PingContext(ctx) }
	})
}
