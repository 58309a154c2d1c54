// Pusher is a server that speaks the Pusher Channels protocol: public, private and presence
// channels, client events, and the HTTP interface by which the app's backend sends events. Pusher's
// own libraries, and Laravel's Echo and broadcasting, talk to it unchanged. Several of them serve
// one set of channels over NATS. In the module's folder, cluster/nats,
//
//	go run ./examples/pusher
//
// starts the server, has some clients and a backend talk to it, and ends:
//
//	Pusher on ws://127.0.0.1:42713/app/demo
//	anna  gets: pusher:connection_established
//	bert  gets: pusher:connection_established
//	anna  gets: pusher_internal:subscription_succeeded, news
//	anna  gets: pusher:subscription_error, presence-room: the signature is wrong
//	anna  gets: pusher_internal:subscription_succeeded, presence-room: here are anna
//	bert  gets: pusher_internal:subscription_succeeded, presence-room: here are anna, bert
//	anna  gets: pusher_internal:member_added, presence-room: bert
//	The backend sends to news: 200 {}
//	anna  gets: headline, news: Whorl speaks Pusher
//	The backend sends with another secret: 401 wrong auth_signature
//	bert  sends client-typing
//	anna  gets: client-typing, presence-room, from bert
//	The backend asks for presence-room: 200 {"occupied":true,"subscription_count":2,"user_count":2}
//	bert  goes
//	anna  gets: pusher_internal:member_removed, presence-room: bert
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM). The secret comes from the
// environment:
//
//	PUSHER_APP_SECRET=… go run ./examples/pusher -listen 127.0.0.1:6001 -id 1 -key demo
//
// and as many as are wanted, on other addresses, with the same secret and the URLs of a NATS:
//
//	… -nats nats://10.0.0.1:4222,nats://10.0.0.2:4222
//
// protocol.go is the protocol, presence.go who is there, api.go the HTTP interface, app.go the
// signatures, and demonstration.go the talk above.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("pusher", run) }

// run serves on -listen until ctx is done; without -listen it has the server shown.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("pusher", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 6001)
	a := app{secret: os.Getenv("PUSHER_APP_SECRET")}
	flags.StringVar(&a.id, "id", "1", "`id` of the app, in the URLs of its backend")
	urls := flags.String("nats", "", "`URLs` of a NATS, with commas between them; all servers on "+
		"it have the same channels")
	flags.StringVar(&a.key, "key", "demo", "`key` of the app, which its clients show")
	open := flags.Bool("sign", false, "let everybody into private and presence channels, under any "+
		"name, by signing for them at /pusher/auth and /broadcasting/auth: for trying it out")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	switch {
	case a.id == "" || a.key == "":
		return program.Usage("-id and -key must not be empty")
	case *listen == "" && *urls != "":
		return program.Usage("-nats is for -listen")
	case *listen == "":
		a.secret = rand.Text()
	case a.secret == "":
		return program.Usage("-listen wants PUSHER_APP_SECRET in the environment")
	}
	var carrier cluster.Broker
	if *urls != "" {
		over, err := nats.Connect(*urls, nats.Config{Name: "pusher", Prefix: "pusher." + a.id})
		if err != nil {
			return program.Usage("-nats: %w", err)
		}
		carrier = over
	}
	b := newBroker(a, *open, carrier)
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: b.server,
		Begin: func(co context.Context, l *server.Listener) (string, error) {
			if err := b.hub.Start(co); err != nil { // it ends with the runtime
				return "", err
			}
			return fmt.Sprintf("Pusher on ws://%v/app/%s\n", l.Addr(), a.key), nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, _ func()) error {
			return demonstrate(co, show, address, a)
		},
	}
	return example.Run(ctx, stdout)
}
