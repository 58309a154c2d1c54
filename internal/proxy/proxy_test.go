package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/proxy"
)

// outcome is everything that the owner of the connection learns from a handshake.
type outcome struct {
	consumed int
	out      string // empty on failure, as it depends on the cut how much was sent by then
	done     bool
	err      error
}

// String leaves nothing out, so that two outcomes are the same if their strings are.
func (o outcome) String() string {
	return fmt.Sprintf("consumed %d, out %q, done %t, err %v", o.consumed, o.out, o.done, o.err)
}

// run plays the owner's part: it feeds answer in pieces of the given sizes (the last one repeats)
// until there is a verdict, and checks what Next promises on every call.
func run(t testing.TB, h proxy.Handshake, answer string, pieces ...int) outcome {
	t.Helper()
	var o outcome
	received := 0
	for {
		in := []byte(answer[o.consumed:received])
		consumed, out, done, err := h.Next(in)
		if consumed < 0 || consumed > len(in) {
			t.Fatalf("consumed %d of %d bytes", consumed, len(in))
		}
		if err != nil && (done || out != nil) {
			t.Fatalf("error %v together with done %t, out %q", err, done, out)
		}
		o.consumed += consumed
		o.out += string(out)
		clear(in) // the owner reuses its buffer, and appends to what it sends
		_ = append(out, "overwritten"...)
		if done || err != nil {
			o.done, o.err = done, err
			break
		}
		if received == len(answer) {
			return o
		}
		received = min(len(answer), received+max(1, pieces[0]))
		if len(pieces) > 1 {
			pieces = pieces[1:]
		}
	}

	consumed, out, done, err := h.Next([]byte(answer))
	if consumed != 0 || out != nil || done != o.done || err != o.err {
		t.Fatalf("verdict changed from %v to %d, %q, %t, %v", o, consumed, out, done, err)
	}
	if o.err != nil {
		o.out = ""
		checkError(t, o.err)
	}
	return o
}

// checkError checks what holds for every error of a handshake.
func checkError(t testing.TB, err error) {
	t.Helper()
	if _, ok := errors.AsType[*proxy.Error](err); !ok {
		t.Errorf("%v is no *proxy.Error", err)
	}
	kinds := 0
	for _, kind := range []error{proxy.ErrProtocol, proxy.ErrAuth, proxy.ErrRefused} {
		if errors.Is(err, kind) {
			kinds++
		}
	}
	if kinds != 1 {
		t.Errorf("%v is of %d kinds", err, kinds)
	}
	if text := err.Error(); len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("error text %q is not short and printable", text)
	}
}

// expectSame runs a fresh handshake over answer whole, byte by byte and cut in two at every place.
func expectSame(t *testing.T, fresh func() proxy.Handshake, answer string) outcome {
	t.Helper()
	whole := run(t, fresh(), answer, max(1, len(answer)))
	if single := run(t, fresh(), answer, 1); single.String() != whole.String() {
		t.Errorf("byte by byte: %v\nwhole: %v", single, whole)
	}
	for cut := 1; cut < min(len(answer), 600); cut++ {
		if two := run(t, fresh(), answer, cut, len(answer)); two.String() != whole.String() {
			t.Fatalf("cut at %d: %v\nwhole: %v", cut, two, whole)
		}
	}
	return whole
}

// checkCuts checks that the outcome does not depend on how answer is cut.
func checkCuts(t *testing.T, fresh func() proxy.Handshake, answer string, first, then int) outcome {
	t.Helper()
	whole := run(t, fresh(), answer, max(1, len(answer)))
	for _, pieces := range [][]int{{1}, {first, then}} {
		if cut := run(t, fresh(), answer, pieces...); cut.String() != whole.String() {
			t.Errorf("in pieces of %v: %v\nwhole: %v", pieces, cut, whole)
		}
	}
	if whole.done {
		if alone := run(t, fresh(), answer[:whole.consumed], len(answer)); alone.String() != whole.String() {
			t.Errorf("without the tunnel's bytes: %v\nwith: %v", alone, whole)
		}
	}
	return whole
}

func TestErrorNamesProxyAndCode(t *testing.T) {
	err := &proxy.Error{Proxy: "SOCKS5", Answer: 7, Err: proxy.ErrRefused}
	if got, want := err.Error(), "SOCKS5: proxy refused the tunnel (code 7)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err = &proxy.Error{Proxy: "HTTP CONNECT", Err: proxy.ErrProtocol}
	if got, want := err.Error(), "HTTP CONNECT: malformed answer from the proxy"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
