// Postgres asks a PostgreSQL server for its version and has coroutines count together, by
// database/sql and pgx over Whorl's loops.
//
//	go run ./examples/postgres -url 'postgres://me@localhost/postgres'
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("postgres", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, out)
	})
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("postgres", flag.ContinueOnError)
	url := flags.String("url", "postgres://localhost/postgres", "the database, as pgx takes it")
	coroutines := flags.Int("coroutines", 10, "how many ask at once")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(*url)
	if err != nil {
		return err
	}
	config.DialFunc = new(hooks.Dialer).DialContext // all that has to be said
	return runtime.Run(func(ctx context.Context) error {
		db := stdlib.OpenDB(*config)
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
				return ask[int](ctx, db, "SELECT $1::int * $1::int", *coroutines)
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
