package nats_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/whorl-go/whorl/cluster"
	"github.com/whorl-go/whorl/cluster/nats"
)

// heap returns the bytes that are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// hub is a Receiver that does little.
type hub struct {
	received func(subject string, message []byte)
}

func (h hub) Receive(subject string, message []byte, _ cluster.Position) {
	if h.received != nil {
		h.received(subject, message)
	}
}

func (h hub) Lost(string, error) {}

// subscribed subscribes to so many rooms, and waits until the server knows.
func subscribed(t testing.TB, b *nats.Broker, rooms int) {
	t.Helper()
	for i := range rooms {
		check(t, b.Subscribe(fmt.Sprintf("room.%08d", i)))
	}
	last := fmt.Sprintf("room.%08d", rooms-1)
	before := b.Stats().MessagesIn
	check(t, b.Publish(last, nil))
	until(t, "the last is subscribed to", func() bool { return b.Stats().MessagesIn > before })
}

func TestSubscriptionsHaveNoGoroutines(t *testing.T) {
	p := spawn(t, 0, "") // so that what the server needs isn't counted
	before := runtime.NumGoroutine()
	b, err := nats.Connect(p.url, nats.Config{})
	check(t, err)
	check(t, b.Start(t.Context(), hub{}))
	defer b.Close(t.Context()) //nolint:errcheck // the test is over
	subscribed(t, b, 1)
	few, bytes := runtime.NumGoroutine(), heap()
	const rooms = 10_000
	subscribed(t, b, rooms)
	if many := runtime.NumGoroutine(); many > few {
		t.Errorf("%d goroutines with %d subscriptions, %d with one", many, rooms, few)
	}
	if few-before > 12 {
		t.Errorf("a Broker has %d goroutines", few-before)
	}
	per := (heap() - bytes) / rooms
	t.Logf("%d goroutines, %d bytes for a subscription", few-before, per)
	if per > 1500 {
		t.Errorf("a subscription takes %d bytes", per)
	}
	for i := range rooms {
		check(t, b.Unsubscribe(fmt.Sprintf("room.%08d", i)))
	}
	if s := b.Stats(); s.Subscriptions != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// BenchmarkSubscriptionMemory reports what a subscription takes in the client.
func BenchmarkSubscriptionMemory(b *testing.B) {
	p := spawn(b, 0, "")
	const rooms = 20_000
	var total int64
	for b.Loop() {
		broker, err := nats.Connect(p.url, nats.Config{})
		check(b, err)
		check(b, broker.Start(b.Context(), hub{}))
		subscribed(b, broker, 1)
		before := heap()
		subscribed(b, broker, rooms)
		total += heap() - before
		check(b, broker.Close(b.Context()))
	}
	b.ReportMetric(float64(total)/float64(b.N)/rooms, "B/subscription")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLatency reports the time from Publish to Receive, one message at a time.
func BenchmarkLatency(b *testing.B) {
	store := b.TempDir()
	for name, connect := range map[string]func() (*nats.Broker, error){
		"in process": func() (*nats.Broker, error) {
			return embed(b, nats.EmbeddedConfig{}).Connect(nats.Config{})
		},
		"loopback": func() (*nats.Broker, error) {
			return nats.Connect(spawn(b, 0, "").url, nats.Config{})
		},
		"history": func() (*nats.Broker, error) {
			return nats.Connect(spawn(b, 0, store).url,
				nats.Config{History: &nats.History{MaxBytes: 16 << 20}})
		},
	} {
		b.Run(name, func(b *testing.B) {
			broker, err := connect()
			check(b, err)
			came := make(chan time.Time, 1)
			check(b, broker.Start(b.Context(), hub{func(string, []byte) { came <- time.Now() }}))
			defer broker.Close(b.Context()) //nolint:errcheck // the benchmark is over
			check(b, broker.Subscribe("room.a"))
			message := make([]byte, 100)
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				check(b, broker.Publish("room.a", message))
				took = append(took, (<-came).Sub(begin))
			}
			slices.Sort(took)
			for _, p := range []int{50, 99} {
				at := took[min(len(took)*p/100, len(took)-1)]
				b.ReportMetric(float64(at.Nanoseconds())/1e3, fmt.Sprintf("µs-p%d", p))
			}
		})
	}
}

// BenchmarkThroughput publishes as fast as the server takes it, and receives all.
func BenchmarkThroughput(b *testing.B) {
	p := spawn(b, 0, "")
	broker, err := nats.Connect(p.url, nats.Config{QueueMessages: 1 << 20})
	check(b, err)
	received := 0
	done := make(chan struct{})
	check(b, broker.Start(b.Context(), hub{func(string, []byte) {
		if received++; received == b.N {
			close(done)
		}
	}}))
	defer broker.Close(b.Context()) //nolint:errcheck // the benchmark is over
	check(b, broker.Subscribe("room.a"))
	message := make([]byte, 100)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; {
		if broker.Publish("room.a", message) == nil {
			i++
		} else {
			time.Sleep(100 * time.Microsecond) // MaxPending
		}
	}
	<-done
	if s := broker.Stats(); s.Dropped > 0 {
		b.Fatalf("stats are %+v", s)
	}
}
