// Mysql asks a MariaDB or MySQL server for its version and has coroutines count together, by
// database/sql and go-sql-driver/mysql over Whorl's loops.
//
//	go run ./examples/mysql -dsn 'me:secret@tcp(localhost:3306)/test'
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"

	"github.com/go-sql-driver/mysql"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("mysql", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, out)
	})
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mysql", flag.ContinueOnError)
	dsn := flags.String(
		"dsn",
		"root@tcp(localhost:3306)/test",
		"the database, as the driver takes it",
	)
	coroutines := flags.Int("coroutines", 10, "how many ask at once")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(*dsn)
	if err != nil {
		return err
	}
	config.DialFunc = new(hooks.Dialer).DialContext // all that has to be said
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	return runtime.Run(func(ctx context.Context) error {
		db := sql.OpenDB(connector)
		defer runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, db.Close() })
		version, err := ask[string](ctx, db, "SELECT version()")
		if err != nil {
			return err
		}
		fmt.Fprintln(out, version)
		squares, err := runtime.Map(
			ctx,
			make([]struct{}, *coroutines),
			func(ctx context.Context, _ struct{}) (int, error) {
				return ask[int](ctx, db, "SELECT ? * ?", *coroutines, *coroutines)
			},
		)
		if err != nil {
			return err
		}
		fmt.Fprintf(
			out,
			"%d coroutines have asked for the square of %d: %v\n",
			*coroutines,
			*coroutines,
			squares,
		)
		return nil
	})
}

// ask returns the only value of a query's result. database/sql waits for a free connection on a Go
// channel, which must not be done on a loop: Await does it elsewhere, and parks the coroutine. All
// that belongs together, up to Scan, is done there.
func ask[T any](ctx context.Context, db *sql.DB, query string, args ...any) (T, error) {
	return runtime.Await(ctx, func() (value T, err error) {
		err = db.QueryRowContext(ctx, query, args...).Scan(&value)
		return value, err
	})
}
