// Overlap has three queries of MySQL and a wait for Redis go on at the same time, in coroutines of
// one loop.
//
//	go run ./examples/overlap -dsn 'me:secret@tcp(localhost:3306)/test' -redis localhost:6379
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("overlap", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, out)
	})
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("overlap", flag.ContinueOnError)
	dsn := flags.String(
		"dsn",
		"root@tcp(localhost:3306)/test",
		"the database, as the driver takes it",
	)
	addr := flags.String("redis", "localhost:6379", "the Redis server, host:port")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	config, err := mysql.ParseDSN(*dsn)
	if err != nil {
		return err
	}
	dial := new(hooks.Dialer).DialContext
	config.DialFunc = dial
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	return runtime.Run(func(ctx context.Context) error {
		db := sql.OpenDB(connector)
		cache := redis.NewClient(&redis.Options{
			Addr: *addr, Dialer: dial, ContextTimeoutEnabled: true,
		})
		defer runtime.Await(ctx, func() (struct{}, error) {
			return struct{}{}, errors.Join(db.Close(), cache.Close())
		})
		return overlap(ctx, db, cache, out)
	}, runtime.WithLoops(1))
}

func overlap(ctx context.Context, db *sql.DB, cache *redis.Client, out io.Writer) error {
	query := func(ctx context.Context, i int) (value string, err error) {
		const question = "SELECT SLEEP(?), ?"
		row := db.QueryRowContext(ctx, question, float64(4-i)/10, i*10)
		err = row.Scan(new(int), &value)
		return value, err
	}
	wait := func(ctx context.Context) (string, error) {
		err := cache.Do(ctx, "BLPOP", "overlap:none", "0.25").Err()
		if errors.Is(err, redis.Nil) {
			return "nothing", nil // nobody has pushed
		}
		return "something", err
	}
	begin := time.Now()
	err := runtime.ForEach(ctx, 4, func(ctx context.Context, i int) error {
		name := []string{"mysql 1", "mysql 2", "mysql 3", "redis"}[i]
		fmt.Fprintln(out, name, "begins")
		value, err := runtime.Await(ctx, func() (string, error) {
			if name == "redis" {
				return wait(ctx)
			}
			return query(ctx, i+1)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintln(out, name, "ends with", value)
		return nil
	})
	fmt.Fprintf(out, "about %.1f s in all\n", time.Since(begin).Seconds())
	return err
}
