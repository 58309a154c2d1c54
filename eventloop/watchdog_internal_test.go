package eventloop

import (
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestPlaceOfIsThePrograms(t *testing.T) {
	_, sleep, _, _ := runtime.Caller(1) // testing.tRunner, which is a function of Go's library
	if sleep == "" || !inGo(sleep) {
		t.Fatalf("%q is not known as a file of Go's library", sleep)
	}
	const loop = "#\t0x1\tgithub.com/whorl-go/whorl/eventloop.(*Loop).main+0x2\t/w/eventloop/loop.go:3\n"
	for _, c := range []struct{ record, want string }{
		{"#\t0x1\tmain.handle+0x25\t/srv/main.go:12\n" + loop, "main.handle /srv/main.go:12"},
		{"#\t0x1\ttime.Sleep+0x25\t" + sleep + ":1\n#\t0x1\tmain.handle+0x25\t/srv/main.go:12\n" + loop,
			"main.handle /srv/main.go:12"},
		{"#\t0x1\tgithub.com/whorl-go/whorl/socket.sysSend+0x2\t/w/socket/sys.go:3\n" +
			"#\t0x1\tshop/order.(*Order).Send+0x25\t/srv/order.go:7\n" + loop, "shop/order.(*Order).Send /srv/order.go:7"},
		{loop, "github.com/whorl-go/whorl/eventloop.(*Loop).main /w/eventloop/loop.go:3"},
		{"", "unknown"},
	} {
		if got := placeOf("1 @ 0x1 0x2\n# labels: {}\n" + c.record); got != c.want {
			t.Errorf("the place is %q, want %q, in\n%s", got, c.want, c.record)
		}
	}
}

// A loop that gets no processor between two user functions may look the same for as long as it
// likes.
func TestLoopThatIsInNoUserFunctionIsNoStall(t *testing.T) {
	l := new(Loop)
	l.turn()
	if _, within := l.userFunction(); !within {
		t.Error("a user function has begun, and doesn't count as running")
	}
	l.between()
	if _, within := l.userFunction(); within {
		t.Error("a loop that polls counts as being in a user function")
	}
	l.turn()
	if _, within := l.userFunction(); !within {
		t.Error("the second user function doesn't count as running")
	}
}

// A function that ends just before its stack is taken is not reported with the stack of what comes
// next.
func TestStackOfSomethingElseIsNotReported(t *testing.T) {
	core, entries := observer.New(zap.WarnLevel)
	l := &Loop{name: "test", log: zap.New(core)}
	l.turn()
	held, _ := l.userFunction()
	l.between()
	l.reportStall(held)
	report := entries.All()[0].ContextMap()
	if at, _ := report["at"].(string); !strings.Contains(at, "ended") || report["stack"] != "" {
		t.Errorf("reported %v", report)
	}
}
