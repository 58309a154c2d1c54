// Redis has coroutines count together in a Redis server, by go-redis over Whorl's loops.
//
//	go run ./examples/redis -addr localhost:6379
package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/redis/go-redis/v9"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("redis", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, out)
	})
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("redis", flag.ContinueOnError)
	addr := flags.String("addr", "localhost:6379", "the server, host:port")
	key := flags.String("key", "whorl-example", "the key to count in; it is deleted in the end")
	coroutines := flags.Int("coroutines", 10, "how many count at once")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	return runtime.Run(func(ctx context.Context) error {
		db := redis.NewClient(&redis.Options{
			Addr:                  *addr,
			Dialer:                new(hooks.Dialer).DialContext, // all that has to be said
			ContextTimeoutEnabled: true,
		})
		defer runtime.Await(ctx, func() (struct{}, error) { return struct{}{}, db.Close() })
		err := runtime.ForEach(ctx, *coroutines, func(ctx context.Context, _ int) error {
			_, err := await(ctx, db.Incr, *key)
			return err
		})
		if err != nil {
			return err
		}
		count, err := await(ctx, db.GetDel, *key)
		fmt.Fprintf(out, "%d coroutines have counted to %s\n", *coroutines, count)
		return err
	})
}

// await runs a command. go-redis waits for a free connection on a Go channel, which must not be
// done on a loop: Await does it elsewhere, and parks the coroutine.
func await[C interface{ Result() (T, error) }, T any](
	ctx context.Context,
	command func(ctx context.Context, key string) C,
	key string,
) (T, error) {
	return runtime.Await(ctx, func() (T, error) { return command(ctx, key).Result() })
}
