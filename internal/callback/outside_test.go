//go:build linux

package callback

import (
	"context"
	"testing"

	"github.com/whorl-go/whorl/runtime"
)

// announced tells when somebody begins to wait for its end.
type announced struct {
	context.Context
	waited chan struct{}
}

func (a announced) Done() <-chan struct{} {
	select {
	case a.waited <- struct{}{}:
	default:
	}
	return a.Context.Done()
}

// Arrive waits for what is being sent at this moment, too: otherwise a file could overtake it.
func TestArriveWaitsForASendUnderWay(t *testing.T) {
	check(t, runtime.Run(func(ctx context.Context) error {
		c, peer := connect(ctx, t, &slow{})
		defer peer.Close()
		defer c.Socket.Close()
		var o Outside
		under, goOn, arrived := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		waits := announced{context.Background(), make(chan struct{}, 1)}
		go func() {
			err := o.Send(c, []byte("before"), func([]byte) error {
				close(under)
				<-goOn
				return nil
			})
			if err != nil {
				arrived <- err
				return
			}
			<-under
			arrived <- o.Arrive(waits, c)
		}()
		_, err := runtime.Await(ctx, func() (struct{}, error) {
			select {
			case <-waits.waited:
				close(goOn)
				return struct{}{}, <-arrived
			case err := <-arrived:
				close(goOn)
				t.Error("Arrive returned before the end of Send")
				return struct{}{}, err
			}
		})
		return err
	}))
}
