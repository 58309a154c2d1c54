// Swoole-port is a small service as it was for Swoole, in PHP, and as it is in Go: watch.php beside
// watch.go, mail.php beside mail.go. Sensors send readings as lines by TCP, Redis keeps them, and a
// dashboard shows them by WebSocket. When one is too high, or doesn't come, somebody gets a mail
// over STARTTLS.
//
//	go run .
//
// brings a small Redis and a mail server in the process, plays a sensor and a dashboard, and ends:
//
//	Sensors on 127.0.0.1:42635, dashboard on http://127.0.0.1:33971/
//	The dashboard begins with {"readings":{}}
//	sensor: boiler 71.5
//	server: ok
//	The dashboard gets {"reading":{"boiler":"71.5"}}
//	sensor: boiler hot
//	server: error: send a name and a number, such as "boiler 71.5"
//	sensor: boiler 95.5
//	server: ok
//	The dashboard gets {"alarm":"boiler is at 95.5, above 90"}
//	The dashboard gets {"reading":{"boiler":"95.5"}}
//	bob@example.com gets "Alarm: boiler is at 95.5, above 90", from alice, who has logged in
//	sensor: cellar 8
//	server: ok
//	The dashboard gets {"reading":{"cellar":"8"}}
//	The timer tells the dashboard {"readings":{"boiler":"95.5","cellar":"8"}}
//	sensor: quit
//	server: bye
//
// With -listen it serves until it is told to end (SIGINT or SIGTERM), on real servers as far as the
// flags name them:
//
//	go run . -listen 127.0.0.1:9502 -dashboard 127.0.0.1:9501 -redis localhost:6379 \
//		-mail mail.example.com:587 -user me -password-file secret -to me@example.com
//
// peers.go has the servers in the process, demonstration.go who plays.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/server"
)

func main() { program.Main("swoole-port", run) }

// run serves on -listen until ctx is done; without -listen it has the service shown.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	var p peers
	flags := flag.NewFlagSet("swoole-port", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 9502)
	dashboard := flags.String("dashboard", "127.0.0.1:0", "`address` of the dashboard")
	limit := flags.Float64("limit", 90, "a higher reading is an alarm")
	silence := flags.Duration("silence", time.Minute, "so is as long a time without a reading")
	every := flags.Duration("every", time.Second, "how often the dashboard is told all readings")
	p.define(flags)
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	if *every <= 0 || *silence <= 0 {
		return program.Usage("-every and -silence are above 0")
	}
	if err := p.start(stdout, *listen == ""); err != nil {
		return err
	}
	defer p.stop()
	pool, err := newMailer(p.mail, p.user, p.password, p.roots)
	if err != nil {
		return err
	}
	w := newWatch(p.redis, mailer{pool: pool, from: p.from, to: p.to})
	w.limit, w.silence, w.every = *limit, *silence, *every

	var url string
	example := serving.Example[*server.Listener]{
		Listen: *listen, Network: "tcp", Server: w,
		Begin: func(co context.Context, l *server.Listener) (string, error) {
			board, err := w.boards.Listen(co, "tcp", *dashboard)
			if err != nil {
				return "", errors.Join(err, w.finish(co))
			}
			url = fmt.Sprintf("%v/", board.Addr())
			return fmt.Sprintf("Sensors on %v, dashboard on http://%s\n", l.Addr(), url), nil
		},
		Demonstrate: func(co context.Context, show io.Writer, address string, _ func()) error {
			return demonstrate(co, show, address, "ws://"+url, p.mails)
		},
	}
	return example.Run(ctx, stdout)
}
