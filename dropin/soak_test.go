//go:build linux && interop

package dropin

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-go/whorl/dropin/internal/cut"
	"github.com/whorl-go/whorl/hooks"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/runtimetest"
	"github.com/whorl-go/whorl/internal/servers"
	"github.com/whorl-go/whorl/runtime"
)

var (
	soakTime  = flag.Duration("soak", time.Minute, "how long the soak test goes on")
	soakStall = flag.Duration("stall", stall, "how long a loop may be held in the soak test without a report; a runtime's default is 100ms")
)

// workers is how many coroutines each kind of client has in the soak, and how many goroutines.
const workers = 4

// A trade is one kind of client: it has a server keep numbers.
type trade struct {
	name  string
	proxy *cut.Proxy
	// client makes what one worker works with. When put returns nil, the server has acknowledged
	// the number.
	client func() (put func(ctx context.Context, number int64) error, done func())
	kept   func(ctx context.Context) (map[int64]bool, error) // what the server has
	end    func()

	mu     sync.Mutex
	acked  []int64 // guarded by mu
	failed int     // guarded by mu
	hung   error   // guarded by mu: a put that took too long
}

// Clients of all kinds at once on two loops, from coroutines and from goroutines, while connections
// are cut at random. At the end the servers have all that they have acknowledged, no loop was held,
// and neither goroutines nor descriptors are left.
func TestSoak(t *testing.T) {
	pg, maria, cache := postgres(t), mariadb(t), servers.StartRedis(t)
	leaktest.GuardFor(t, *soakTime+4*patience)
	ctx := runtimetest.Start(t, watched(t, *soakStall)...).Context()
	trades := []*trade{
		soakSQL(ctx, t, "PostgreSQL", pg), soakSQL(ctx, t, "MariaDB", maria), soakRedis(ctx, t, cache), soakHTTP(ctx, t), soakRaw(ctx, t),
	}

	work, stop := context.WithTimeout(ctx, *soakTime)
	defer stop()
	var numbers atomic.Int64
	var group sync.WaitGroup
	for _, trade := range trades {
		for range workers {
			co, err := runtime.Go(ctx, func(ctx context.Context) { trade.work(ctx, work, &numbers) })
			check(t, err)
			group.Go(func() { co.Join(context.Background()) })
			group.Go(func() { trade.work(ctx, work, &numbers) })
		}
	}
	for tick := time.NewTicker(50 * time.Millisecond); work.Err() == nil; <-tick.C {
		trades[rand.IntN(len(trades))].proxy.CutSome(0.3)
	}
	group.Wait()
	for _, trade := range trades {
		trade.settle(ctx, t)
		trade.end()
	}
}

// work puts numbers until work is done.
func (d *trade) work(ctx, work context.Context, numbers *atomic.Int64) {
	put, done := d.client()
	defer done()
	for work.Err() == nil {
		number := numbers.Add(1)
		limited, cancel := context.WithTimeout(ctx, patience)
		err := put(limited, number)
		hung := limited.Err() != nil
		cancel()
		d.mu.Lock()
		switch {
		case hung || errors.Is(err, os.ErrDeadlineExceeded):
			d.hung = fmt.Errorf("%d: nothing came of it within %v: %w", number, patience, err)
		case err == nil:
			d.acked = append(d.acked, number)
		default:
			d.failed++
		}
		d.mu.Unlock()
	}
}

// settle compares what was acknowledged with what the server has.
func (d *trade) settle(ctx context.Context, t *testing.T) {
	kept, err := d.kept(ctx)
	check(t, err)
	lost := 0
	for _, number := range d.acked {
		if !kept[number] {
			lost++
		}
	}
	t.Logf("%s: %d acknowledged, %d failed, %d connections cut", d.name, len(d.acked), d.failed, d.proxy.Cuts())
	if lost > 0 || d.hung != nil {
		t.Errorf("%s: %d acknowledged but lost; %v", d.name, lost, d.hung)
	}
	if len(d.acked) == 0 || d.proxy.Cuts() == 0 {
		t.Errorf("%s: the soak says nothing", d.name)
	}
}

func soakSQL(ctx context.Context, t *testing.T, name string, d *database) *trade {
	p := proxy(t, d.Addr)
	db, end := d.begin(ctx, t, p.Addr())
	db.SetMaxOpenConns(workers) // fewer than there are workers
	return &trade{
		name: name, proxy: p,
		client: func() (func(context.Context, int64) error, func()) {
			return func(ctx context.Context, number int64) error { return execute(ctx, db, d.insert, number) }, func() {}
		},
		kept: func(ctx context.Context) (map[int64]bool, error) {
			rows, err := db.QueryContext(ctx, "SELECT n FROM numbers")
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			kept := make(map[int64]bool)
			for rows.Next() {
				var n int64
				if err := rows.Scan(&n); err != nil {
					return nil, err
				}
				kept[n] = true
			}
			return kept, rows.Err()
		},
		end: end,
	}
}

func soakRedis(ctx context.Context, t *testing.T, s *servers.Server) *trade {
	p := proxy(t, s.TLSAddr)
	options := redisOptions(p.Addr(), s.TLS)
	options.PoolSize = workers
	c, end := openRedis(ctx, t, options)
	return &trade{
		name: "Redis over TLS", proxy: p,
		client: func() (func(context.Context, int64) error, func()) {
			return func(ctx context.Context, number int64) error {
				return await(ctx, func() error { return c.SAdd(ctx, "numbers", number).Err() })
			}, func() {}
		},
		kept: func(ctx context.Context) (map[int64]bool, error) {
			return numbersOf(c.SMembers(ctx, "numbers").Result())
		},
		end: end,
	}
}

func numbersOf(words []string, err error) (map[int64]bool, error) {
	kept := make(map[int64]bool)
	for _, word := range words {
		number, parseErr := strconv.ParseInt(word, 10, 64)
		err = errors.Join(err, parseErr)
		kept[number] = true
	}
	return kept, err
}

// A ledger is what the servers of these tests keep numbers in.
type ledger struct {
	mu   sync.Mutex
	kept map[int64]bool // guarded by mu
}

func (l *ledger) put(number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = make(map[int64]bool)
	}
	l.kept[number] = true
}

func (l *ledger) all(context.Context) (map[int64]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept, nil
}

// soakHTTP has net/http on both sides, with TLS and HTTP/2.
func soakHTTP(ctx context.Context, t *testing.T) *trade {
	s, stop := serve(ctx, t, true)
	book := new(ledger)
	s.Handler.(*http.ServeMux).HandleFunc("/put/{number}", func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.ParseInt(r.PathValue("number"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		book.put(number)
		fmt.Fprint(w, number)
	})
	p := proxy(t, s.addr)
	b := newBrowser(t, p.Addr(), true)
	return &trade{
		name: "HTTP/2", proxy: p,
		client: func() (func(context.Context, int64) error, func()) {
			return func(ctx context.Context, number int64) error {
				got, err := b.post(ctx, fmt.Sprint("/put/", number), nil)
				if err == nil && string(got.body) != fmt.Sprint(number) {
					err = fmt.Errorf("the answer is %q", got.body)
				}
				return err
			}, func() {}
		},
		kept: book.all,
		end:  func() { b.CloseIdleConnections(); stop() },
	}
}

// soakRaw has lines over hooked connections, read and written by the coroutines themselves, and
// over TLS by Conn.EnableSSL.
func soakRaw(ctx context.Context, t *testing.T) *trade {
	l := listen(ctx, t)
	book := new(ledger)
	client, server := configs()
	served := beside(ctx, t, func(ctx context.Context) error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return nil
			}
			runtime.Go(ctx, func(ctx context.Context) { serveLines(ctx, conn.(*hooks.Conn), server, book) })
		}
	})
	p := proxy(t, l.Addr().String())
	return &trade{
		name: "raw TLS", proxy: p,
		client: func() (func(context.Context, int64) error, func()) {
			c := &liner{addr: p.Addr(), config: client}
			return c.put, c.hangUp
		},
		kept: book.all,
		end:  func() { check(t, l.Close()); check(t, served()) },
	}
}

// serveLines keeps the numbers that come, and acknowledges each.
func serveLines(ctx context.Context, conn *hooks.Conn, config *tls.Config, book *ledger) {
	defer conn.Close()
	if conn.EnableSSL(ctx, config) != nil {
		return
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		number, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return
		}
		book.put(number)
		if _, err := fmt.Fprintln(conn, number); err != nil {
			return
		}
	}
}

// A liner is a client of serveLines, for one worker. It connects anew after an error.
type liner struct {
	addr   string
	config *tls.Config
	conn   net.Conn // nil: not connected
	reader *bufio.Reader
}

func (c *liner) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *liner) put(ctx context.Context, number int64) (err error) {
	defer func() {
		if err != nil {
			c.hangUp()
		}
	}()
	if c.conn == nil {
		conn, err := new(hooks.Dialer).DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
		if err := conn.(*hooks.Conn).EnableSSL(ctx, c.config); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.conn, number); err != nil {
		return err
	}
	line, err := c.reader.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != fmt.Sprint(number) {
		err = fmt.Errorf("the answer is %q", line)
	}
	return err
}
