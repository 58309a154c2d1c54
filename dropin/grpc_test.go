//go:build linux

package dropin

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
)

// A calls is a gRPC service over hooks.Listen.
type calls struct {
	pb.UnimplementedTestServiceServer
	addr    string
	waiting chan struct{} // gets one for each call that waits for its end
	left    chan error    // gets why each of these has ended
}

func (*calls) UnaryCall(_ context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{Payload: in.Payload}, nil
}

func (*calls) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// EmptyCall waits until its client goes.
func (c *calls) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	c.waiting <- struct{}{}
	<-ctx.Done()
	c.left <- ctx.Err()
	return nil, ctx.Err()
}

func serveCalls(ctx context.Context, t testing.TB, secure bool) (c *calls, stop func()) {
	t.Helper()
	l := listen(ctx, t)
	c = &calls{addr: l.Addr().String(), waiting: make(chan struct{}, 16), left: make(chan error, 16)}
	var options []grpc.ServerOption
	if secure {
		_, config := configs()
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	pb.RegisterTestServiceServer(server, c)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return c, func() {
		check(t, await(ctx, func() error { server.Stop(); return <-ended }))
	}
}

// caller returns gRPC's client over the Dialer, which it calls from goroutines of its own, with a
// context that comes from no coroutine.
func caller(ctx context.Context, t testing.TB, addr string, secure bool) pb.TestServiceClient {
	t.Helper()
	creds := insecure.NewCredentials()
	if secure {
		config, _ := configs()
		creds = credentials.NewTLS(config)
	}
	rt, err := runtime.From(ctx)
	check(t, err)
	dialer := &hooks.Dialer{Runtime: rt}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }))
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return pb.NewTestServiceClient(conn)
}

func payload(size int) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

// unary makes a call. gRPC waits for its own goroutines on Go channels, so a coroutine calls it by
// Await.
func unary(ctx context.Context, c pb.TestServiceClient, size int) error {
	return await(ctx, func() error {
		out, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(size)}, grpc.WaitForReady(true))
		if err == nil && len(out.Payload.Body) != size {
			err = fmt.Errorf("got %d bytes, want %d", len(out.Payload.Body), size)
		}
		return err
	})
}

func duplex(ctx context.Context, c pb.TestServiceClient, messages int) error {
	return await(ctx, func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.FullDuplexCall(ctx)
		if err != nil {
			return err
		}
		for n := range messages {
			if err := stream.Send(&pb.StreamingOutputCallRequest{Payload: payload(n * 1000)}); err != nil {
				return err
			}
			in, err := stream.Recv()
			if err != nil {
				return err
			}
			if len(in.Payload.Body) != n*1000 {
				return fmt.Errorf("got %d bytes, want %d", len(in.Payload.Body), n*1000)
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != io.EOF {
			return fmt.Errorf("at the end: %w", err)
		}
		return nil
	})
}

// eachGRPC runs a test in plaintext and over TLS.
func eachGRPC(t *testing.T, test func(ctx context.Context, t *testing.T, secure bool)) {
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			both(t, func(ctx context.Context, t *testing.T) { test(ctx, t, secure) })
		})
	}
}

func TestGRPC(t *testing.T) {
	eachGRPC(t, func(ctx context.Context, t *testing.T, secure bool) {
		s, stop := serveCalls(ctx, t, secure)
		defer stop()
		c := caller(ctx, t, s.addr, secure)
		check(t, many(ctx, 8, func(ctx context.Context, i int) error {
			for n := range 10 {
				if err := unary(ctx, c, n*i*1000); err != nil {
					return err
				}
			}
			return duplex(ctx, c, 10)
		}))
	})
}

func TestGRPCCallEndsWithItsContext(t *testing.T) {
	eachGRPC(t, func(ctx context.Context, t *testing.T, secure bool) {
		s, stop := serveCalls(ctx, t, secure)
		defer stop()
		c := caller(ctx, t, s.addr, secure)
		wait := func(ctx context.Context) error {
			// gRPC heeds the context by itself, and says so by a status, for which Await waits.
			return await(context.WithoutCancel(ctx), func() error {
				_, err := c.EmptyCall(ctx, new(pb.Empty))
				return err
			})
		}
		cancelled, cancel := context.WithCancel(ctx)
		over := beside(ctx, t, func(context.Context) error { return wait(cancelled) })
		check(t, await(ctx, func() error { <-s.waiting; return nil }))
		cancel()
		if err := over(); status.Code(err) != codes.Canceled {
			t.Errorf("cancelled: error is %v", err)
		}
		wantError(t, "seen by the server", await(ctx, func() error { return <-s.left }), context.Canceled)
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if err := wait(late); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("late: error is %v", err)
		}
		check(t, unary(ctx, c, 10))
	})
}

func TestGRPCConnectionCut(t *testing.T) {
	eachGRPC(t, func(ctx context.Context, t *testing.T, secure bool) {
		s, stop := serveCalls(ctx, t, secure)
		defer stop()
		p := proxy(t, s.addr)
		c := caller(ctx, t, p.Addr(), secure)
		over := beside(ctx, t, func(ctx context.Context) error {
			return await(ctx, func() error {
				_, err := c.EmptyCall(ctx, new(pb.Empty))
				return err
			})
		})
		check(t, await(ctx, func() error { <-s.waiting; return nil }))
		p.CutAll()
		if err := over(); status.Code(err) != codes.Unavailable {
			t.Errorf("cut: error is %v", err)
		}
		wantError(t, "seen by the server", await(ctx, func() error { return <-s.left }), context.Canceled)
		check(t, unary(ctx, c, 10)) // gRPC connects again
	})
}

func TestForgottenAwaitOfGRPC(t *testing.T) {
	forgotten(t, "google.golang.org/grpc", func(ctx context.Context, t *testing.T) func(ctx context.Context) error {
		s, stop := serveCalls(ctx, t, false)
		runtime.Defer(ctx, func(context.Context) { stop() })
		c := caller(ctx, t, s.addr, false)
		return func(ctx context.Context) error {
			_, err := c.EmptyCall(ctx, new(pb.Empty))
			return err
		}
	})
}
