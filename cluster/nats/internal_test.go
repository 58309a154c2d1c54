package nats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/whorl-go/whorl/cluster"
)

// taken returns what is in a queue, in short.
func taken(q *queue) (all []string) {
	q.put(entry{subject: "end", lost: io.EOF})
	for _, e := range q.take(nil) {
		switch {
		case e.subject == "end":
		case e.lost != nil:
			all = append(all, "lost "+e.subject)
		default:
			all = append(all, string(e.message))
		}
		q.done(&e)
	}
	return all
}

func message(subject string, i int) entry {
	return entry{subject: subject, message: fmt.Append(nil, subject, i)}
}

func TestAQueueSaysInWhosePlaceMessagesAreMissing(t *testing.T) {
	q := newQueue(2, 1<<20)
	want := func(want ...string) {
		t.Helper()
		if got := taken(q); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for i := range 4 {
		q.put(message("a", i), message("b", i))
	}
	want("a0", "b0", "lost a", "lost b")
	q.put(message("a", 4), message("a", 5), message("a", 6))
	want("a4", "a5", "lost a")
	q.put(message("a", 7))
	want("a7")
	// What is lost behind one that was taken is said once more.
	q.put(message("b", 0), message("b", 1), message("a", 0))
	batch := q.take(nil)
	q.put(message("a", 1))
	for i := range batch {
		q.done(&batch[i])
	}
	want("lost a")
	if q.messages.Load() != 0 || q.bytes.Load() != 0 || q.dropped.Load() != 9 {
		t.Errorf("%d messages and %d bytes wait, %d are dropped", q.messages.Load(),
			q.bytes.Load(), q.dropped.Load())
	}
	q.put(message("a", 1))
	q.close()
	if batch := q.take(nil); batch != nil {
		t.Errorf("a closed queue has %v", batch)
	}
}

func TestAQueueSaysOnceThatNothingIsTaken(t *testing.T) {
	q := newQueue(10, 1<<20)
	refused := entry{subject: "a", lost: io.EOF}
	for range 1000 {
		q.put(refused, entry{subject: "b", lost: io.EOF})
	}
	q.put(message("a", 0), refused, refused)
	q.put(entry{lost: io.EOF}, message("c", 0), entry{lost: io.EOF})
	want := []string{"lost a", "lost b", "a0", "lost a", "lost ", "c0", "lost "}
	if got := taken(q); !slices.Equal(got, want) {
		t.Errorf("got %.200v, want %v", got, want)
	}
}

func TestAQueueIsBoundedInBytes(t *testing.T) {
	q := newQueue(100, 3*(overhead+2))
	q.put(message("a", 0), message("a", 1), message("a", 2), message("a", 3))
	if got := fmt.Sprint(taken(q)); got != "[a0 a1 a2 lost a]" {
		t.Errorf("got %v", got)
	}
}

func TestPlacesInAHistory(t *testing.T) {
	h := history{}
	h.set("1")
	a, b := &subscription{}, &subscription{}
	for i, step := range []struct {
		s                  *subscription
		offset, last, time int64
		want               fate
		epoch              string
	}{
		{a, 5, 0, 50, pass, "1"},     // others were dropped before it
		{b, 6, 4, 60, pass, "1"},     // the first that is seen of this room
		{a, 7, 5, 70, pass, "1"},     // the next
		{a, 9, 8, 90, gap, "1"},      // 8 is missing
		{a, 9, 8, 90, again, ""},     // a new leader sends it on once more
		{a, 7, 5, 70, again, ""},     // and this
		{b, 10, 0, 95, pass, "1"},    // 6 is dropped by age
		{a, 2, 0, 99, restarted, ""}, // another stream
		{b, 3, 0, 100, pass, ""},     // whose epoch isn't known
		{b, 11, 10, 110, gap, ""},
	} {
		m := stamp{uint64(step.offset), uint64(step.last), step.time}
		at, got := h.place(step.s, m)
		want := cluster.Position{}
		if step.epoch != "" {
			want = cluster.Position{Offset: m.offset, Epoch: step.epoch}
		}
		if got != step.want || at != want {
			t.Errorf("step %d: %v, fate %d; want %v, %d", i, at, got, want, step.want)
		}
	}
	h.set("2")
	if at, got := h.place(b, stamp{12, 11, 120}); got != pass || at.Epoch != "2" {
		t.Errorf("%v, fate %d", at, got)
	}
	// The stream's epoch is known before its first message comes.
	h.set("3")
	if at, got := h.place(b, stamp{1, 0, 130}); got != pass || at.Epoch != "3" || at.Offset != 1 {
		t.Errorf("%v, fate %d", at, got)
	}
}

// outboxes returns an outbox, and the server's end of its connection.
func outboxes(t *testing.T, timeout time.Duration) (*outbox, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	o := newOutbox(here, timeout, func() {})
	t.Cleanup(func() {
		o.Close()
		there.Close()
		go o.linger()
		o.abort()
	})
	return o, there
}

func TestAnOutboxWritesInOrderAndKeepsNothing(t *testing.T) {
	o, there := outboxes(t, time.Minute)
	var want bytes.Buffer
	for i := range 5000 {
		p := bytes.Repeat([]byte{byte(i)}, i%97)
		want.Write(p)
		if n, err := o.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if o.queued.Load() != int64(want.Len()) {
		t.Errorf("%d bytes wait, want %d", o.queued.Load(), want.Len())
	}
	got := make([]byte, want.Len())
	for i := range got { // a byte at a time
		if _, err := io.ReadFull(there, got[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("other bytes have arrived")
	}
	for deadline := time.Now().Add(10 * time.Second); o.queued.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes wait", o.queued.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAnOutboxEndsWithAServerThatTakesNothing(t *testing.T) {
	o, there := outboxes(t, 10*time.Millisecond)
	if _, err := o.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	<-o.done
	if err := o.failure(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it has ended because of %v", err)
	}
	if _, err := o.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v", err)
	}
	if _, err := there.Read(make([]byte, 1)); err == nil {
		t.Error("the connection isn't closed")
	}
}

func TestAnOutboxEndsWithItsConnection(t *testing.T) {
	o, there := outboxes(t, time.Minute)
	o.Write([]byte("x")) //nolint:errcheck // it is queued
	there.Close()
	<-o.done
	if o.failure() == nil {
		t.Error("there is no error")
	}
	o, _ = outboxes(t, time.Minute)
	o.Close()
	<-o.done
	if _, err := o.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
}

// FuzzReceived takes what others publish: it must be one of ours, or be dropped.
func FuzzReceived(f *testing.F) {
	f.Add("whorl.room.a", "1", "0", "2026-01-01T00:00:00Z", "hello")
	f.Add("whorl.room.a", "18446744073709551615", "18446744073709551614", "x", "")
	f.Add("whorl.room.*", "", "", "", "")
	f.Add("whorl.", "-1", "+1", "0", "")
	f.Add("_INBOX.a.room.a", "", "", "", `{"error":{"code":503,"description":"no"}}`)
	f.Add("_INBOX.a.", "", "", "", `{"error":null}`)
	f.Add("_INBOX.a.\x00", "", "", "", `[]`)
	f.Fuzz(func(t *testing.T, subject, offset, last, when, text string) {
		b, err := Connect("nats://127.0.0.1", Config{History: &History{}})
		if err != nil {
			t.Fatal(err)
		}
		l := &link{acks: "_INBOX.a."}
		m := &natsgo.Msg{Subject: subject, Data: []byte(text), Header: natsgo.Header{
			"Nats-Sequence": {offset}, "Nats-Last-Sequence": {last}, "Nats-Time-Stamp": {when}}}
		e, ok := b.entry(l, m)
		if !ok {
			return
		}
		if err := checkSubject(e.subject); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(subject, l.acks) != (e.lost != nil) {
			t.Errorf("%q is %+v", subject, e)
		}
		if s := e.stamp; e.lost == nil && strings.HasPrefix(e.subject, rooms) &&
			(s.offset == 0 || s.last >= s.offset) {
			t.Errorf("the stamp is %+v", s)
		}
		h, sub := history{epoch: "1"}, &subscription{}
		for range 2 {
			if at, _ := h.place(sub, e.stamp); at.Epoch != "" && at.Offset != e.stamp.offset {
				t.Errorf("it is at %v", at)
			}
		}
	})
}

func TestAnOutboxLingersUntilTheServerHasReadAll(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	o := newOutbox(here, time.Minute, func() {})
	if _, err := o.Write([]byte("sent before")); err != nil {
		t.Fatal(err)
	}
	for o.queued.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	o.Close()
	go o.linger()
	o.Close() // nats.go closes more than once
	select {
	case <-o.ended:
		t.Error("it has ended before the server")
	case <-time.After(50 * time.Millisecond):
	}
	if got, err := io.ReadAll(there); string(got) != "sent before" || err != nil {
		t.Errorf("the server reads %q, %v", got, err)
	}
	there.Close()
	<-o.ended
	o.abort()
}

func TestWhatIsHeldComesBehindWhatItIsReleasedWith(t *testing.T) {
	q := newQueue(10, 1<<20)
	q.put(message("a", 0))
	q.hold()
	q.put(message("a", 1))
	q.hold() // that is lost, too
	q.put(message("a", 2))
	if got := q.take(nil); len(got) != 1 || string(got[0].message) != "a0" {
		t.Errorf("got %v", got)
	} else {
		q.done(&got[0])
	}
	q.release(entry{subject: "all", lost: io.EOF})
	q.put(message("a", 3))
	if got := fmt.Sprint(taken(q)); got != "[lost all a2 a3]" {
		t.Errorf("got %v", got)
	}
	if q.messages.Load() != 0 || q.bytes.Load() != 0 {
		t.Errorf("%d messages wait, %d bytes", q.messages.Load(), q.bytes.Load())
	}
}
