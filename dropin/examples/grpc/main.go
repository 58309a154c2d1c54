// Grpc asks a gRPC server how it is, by the health-checking protocol, over Whorl's loops. Without
// -addr it starts such a server itself, over Whorl as well.
//
//	go run ./examples/grpc
//	go run ./examples/grpc -addr localhost:50051
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	pb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

func main() {
	program.Main("grpc", func(_ context.Context, args []string, out io.Writer) error {
		return run(args, out)
	})
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("grpc", flag.ContinueOnError)
	addr := flags.String(
		"addr",
		"",
		"the server, host:port, in plaintext; empty: one of the program's own",
	)
	service := flags.String("service", "", "the service to ask about; empty: the server as a whole")
	if err := program.Parse(flags, args, out); err != nil {
		return err
	}
	return runtime.Run(func(ctx context.Context) error {
		if *addr == "" {
			l, err := hooks.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			server := grpc.NewServer()
			pb.RegisterHealthServer(server, health.NewServer())
			go server.Serve(l)
			// Waits for its goroutines.
			defer runtime.Await(
				ctx,
				func() (struct{}, error) { server.Stop(); return struct{}{}, nil },
			)
			*addr = l.Addr().String()
		}
		status, err := check(ctx, *addr, *service)
		if err == nil {
			fmt.Fprintf(out, "%s: %s\n", *addr, status)
		}
		return err
	})
}

// check asks. gRPC dials from goroutines of its own, and waits for these on Go channels, which must
// not be done on a loop: Await does it elsewhere, and parks the coroutine.
func check(
	ctx context.Context,
	addr, service string,
) (pb.HealthCheckResponse_ServingStatus, error) {
	conn, err := grpc.NewClient(
		"passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(hooks.Dialer).DialContext(ctx, "tcp", addr)
		}),
	)
	if err != nil {
		return 0, err
	}
	return runtime.Await(ctx, func() (pb.HealthCheckResponse_ServingStatus, error) {
		defer conn.Close()
		response, err := pb.NewHealthClient(conn).
			Check(ctx, &pb.HealthCheckRequest{Service: service})
		return response.GetStatus(), err
	})
}
