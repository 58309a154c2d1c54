package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	event "github.com/whorl-go/whorl/defer"
	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/runtime"
	"github.com/whorl-go/whorl/server"
	"github.com/whorl-go/whorl/websocket"
)

const (
	mostSensors = 1000        // whoever comes after them is refused
	patience    = time.Minute // for a mail, and for what is left at the end
)

var reading = regexp.MustCompile(`^([a-z0-9-]{1,32}) (-?\d{1,6}(?:\.\d{1,3})?)$`)

//go:embed page.html
var page []byte

// A watch is the service. watch.php is what it was ported from, function by function.
type watch struct {
	limit   float64       // a higher reading is an alarm
	silence time.Duration // so is as long a time without a reading
	every   time.Duration // how often the timer ticks
	dialer  hooks.Dialer
	redis   *redis.Client
	mail    mailer
	lines   *server.Server    // the sensors'
	boards  *websocket.Server // the dashboards'
	work    runtime.WaitGroup // what is under way besides sensors

	mu      sync.Mutex // is never held across a wait
	sensors map[string]sensor
}

// What is known of a sensor.
type sensor struct {
	seen  time.Time
	alarm bool
}

func newWatch(address string, mail mailer) *watch {
	w := &watch{limit: 90, mail: mail, sensors: make(map[string]sensor)}
	w.redis = redis.NewClient(&redis.Options{
		Addr:                  address,
		Dialer:                w.dialer.DialContext, // its connections are on the loops
		PoolSize:              3,
		ContextTimeoutEnabled: true,
	})
	w.lines = server.New(server.Config{Port: server.Port{
		EOF: "\r\n", MaxPacket: 1024, IdleTimeout: 5 * time.Minute, Handle: w.serve,
	}})
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		rw.Write(page)
	})
	w.boards = websocket.NewServer(websocket.Config{
		OnRequest: pages,
		OnOpen:    w.welcome,
		Options: websocket.Options{
			OnMessage: func(context.Context, *websocket.Conn, websocket.Message) {
				// A dashboard has nothing to say.
			},
		},
	})
	return w
}

// serve is on('receive'), but of one connection, and in a coroutine that may wait.
func (w *watch) serve(ctx context.Context, c *server.Conn) {
	for {
		line, err := c.Recv(ctx)
		if err != nil {
			return
		}
		if string(line) == "quit\r\n" {
			c.Send(ctx, []byte("bye\r\n"))
			return // which closes
		}
		answer := w.answer(ctx, string(line[:len(line)-2]))
		if _, err := c.Send(ctx, []byte(answer+"\r\n")); err != nil {
			return
		}
	}
}

// answer takes a line of a sensor, and returns what that is told.
func (w *watch) answer(ctx context.Context, line string) string {
	m := reading.FindStringSubmatch(line)
	if m == nil {
		return `error: send a name and a number, such as "boiler 71.5"`
	}
	name, value := m[1], m[2]
	alarm, ok := w.note(name, value)
	if !ok {
		return "error: there are too many sensors"
	}
	if alarm {
		w.alarm(ctx, fmt.Sprintf("%s is at %s, above %v", name, value, w.limit))
	}
	_, err := runtime.Await(ctx, func() (int64, error) {
		return w.redis.HSet(ctx, "watch:readings", name, value).Result()
	})
	if err != nil {
		complain(ctx, err)
		return "error: try again"
	}
	w.push(map[string]any{"reading": map[string]string{name: value}})
	return "ok"
}

// note remembers a reading. Sensors are on all loops, so here a lock is needed where PHP's one
// worker needs none.
func (w *watch) note(name, value string) (alarm, ok bool) {
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return false, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before, known := w.sensors[name]
	if !known && len(w.sensors) >= mostSensors {
		return false, false
	}
	high := number > w.limit
	w.sensors[name] = sensor{seen: time.Now(), alarm: high}
	return high && !before.alarm, true
}

// alarm tells the dashboards at once, and sends a mail in a coroutine of its own, which goes on
// when the sensor's connection has ended.
func (w *watch) alarm(ctx context.Context, text string) {
	w.work.Go(context.WithoutCancel(ctx), func(ctx context.Context) {
		w.push(map[string]any{"alarm": text})
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := w.mail.send(ctx, "Alarm: "+text); err != nil {
			complain(ctx, err)
		}
	})
}

// tick is called by a timer.
func (w *watch) tick(ctx context.Context) {
	w.work.Add(1)
	defer w.work.Done()
	for _, name := range w.silent() {
		w.alarm(ctx, name+" is silent")
	}
	if all, err := w.readings(ctx); err == nil {
		w.push(all)
	}
}

// silent returns the sensors that haven't been heard for too long, once.
func (w *watch) silent() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, s := range w.sensors {
		if !s.alarm && time.Since(s.seen) > w.silence {
			w.sensors[name] = sensor{seen: s.seen, alarm: true}
			names = append(names, name)
		}
	}
	return names
}

// welcome shows a new dashboard what is known. It is a callback, which must not wait for Redis, so
// a coroutine does.
func (w *watch) welcome(ctx context.Context, c *websocket.Conn, _ *http.Request) {
	w.boards.Join(c, "dashboards") // first, so that nothing is missed meanwhile
	w.work.Go(ctx, func(ctx context.Context) {
		all, err := w.readings(ctx)
		if err != nil {
			return
		}
		c.Push(encode(all), websocket.Text)
	})
}

func (w *watch) readings(ctx context.Context) (map[string]any, error) {
	all, err := runtime.Await(ctx, func() (map[string]string, error) {
		return w.redis.HGetAll(ctx, "watch:readings").Result()
	})
	if err != nil {
		complain(ctx, err)
	}
	return map[string]any{"readings": all}, err
}

// push sends to all dashboards.
func (w *watch) push(message map[string]any) {
	w.boards.Broadcast("dashboards", encode(message), websocket.Text)
}

func encode(message map[string]any) []byte {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // there is nothing in it that JSON has no form for
	}
	return data
}

// complain writes to the log, which may block.
func complain(ctx context.Context, err error) {
	runtime.Await(ctx, func() (none struct{}, _ error) {
		log.Print(err)
		return none, nil
	})
}

// Listen listens for sensors.
func (w *watch) Listen(
	co context.Context, network, address string,
) (l *server.Listener, err error) {
	// go-redis also dials on goroutines of its own, which belong to no runtime.
	if w.dialer.Runtime, err = runtime.From(co); err != nil {
		return nil, err
	}
	return w.lines.Listen(co, network, address)
}

// Serve serves until Shutdown, or until co is done.
func (w *watch) Serve(co context.Context) error {
	timer, err := event.Tick(co, w.every, w.tick)
	if err != nil {
		return err
	}
	defer timer.Clear()
	var boards error
	var group runtime.WaitGroup
	group.Go(co, func(co context.Context) { boards = w.boards.Serve(co) })
	lines := w.lines.Serve(co)
	w.boards.Close() // has ended, too, unless something has failed
	group.Wait(co)
	return errors.Join(lines, boards, w.finish(co))
}

// Shutdown ends both servers. What sensors have said is answered.
func (w *watch) Shutdown(co context.Context) error {
	return errors.Join(w.lines.Shutdown(co), w.boards.Shutdown(co))
}

// finish has the last mails go, and closes what is connected.
func (w *watch) finish(co context.Context) error {
	co, cancel := context.WithTimeout(context.WithoutCancel(co), patience)
	defer cancel()
	err := errors.Join(w.work.Wait(co), w.mail.pool.Close(co))
	_, closed := runtime.Await(co, func() (none struct{}, _ error) { return none, w.redis.Close() })
	return errors.Join(err, closed)
}
