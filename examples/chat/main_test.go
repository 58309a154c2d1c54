//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/whorl-go/whorl/internal/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDemonstration(t *testing.T) {
	t.Parallel()
	exampletest.Demonstration(t, run)
}

func serve(t *testing.T) (address string, stop func() string) {
	t.Helper()
	return exampletest.Serve(t, run, "Chat on ")
}

// A visitor is a client without anything of Whorl's.
type visitor struct {
	t *testing.T
	net.Conn
	lines *bufio.Reader
}

// visit connects and takes a name.
func visit(t *testing.T, address, name string) *visitor {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, exampletest.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(exampletest.Patience))
	v := &visitor{t, conn, bufio.NewReader(conn)}
	v.expect("* Welcome, guest")
	v.say("/nick " + name)
	v.expect("* You are " + name)
	return v
}

func (v *visitor) say(text string) {
	v.t.Helper()
	if _, err := io.WriteString(v, text+"\r\n"); err != nil {
		v.t.Fatal(err)
	}
}

func (v *visitor) expect(want string) {
	v.t.Helper()
	if line, err := v.lines.ReadString('\n'); !strings.HasPrefix(line, want) {
		v.t.Fatalf("%q, %v; want %q", line, err, want)
	}
}

func TestTalk(t *testing.T) {
	t.Parallel()
	address, stop := serve(t)
	anna := visit(t, address, "Anna")
	jörg := visit(t, address, "Jörg")
	anna.expect("* guest2 has come")
	anna.expect("* guest2 is Jörg now")
	jörg.say("/to Anna übrigens")
	anna.expect("Jörg, to you: übrigens\n")
	jörg.say("/to Bert hello")
	jörg.expect("! There is no Bert")
	jörg.say("")
	jörg.say("/dance")
	jörg.expect("! /nick")
	for _, name := range []string{"Anna", "Jörg", "", "a b", "a:", "a\x1b[2J", "\xff", strings.Repeat("a", 21)} {
		jörg.say("/nick " + name)
		jörg.expect("! ")
	}
	jörg.say("\x1b[2J")
	jörg.expect("! That is no text")
	jörg.say("that was all")
	anna.expect("Jörg: that was all\n")
	jörg.Close()
	anna.expect("* Jörg has gone")
	anna.say("/who")
	anna.expect("* Here are Anna\n")

	// Names are free again, and guests have some that nobody has taken.
	anna.say("/nick guest3")
	anna.expect("* You are guest3")
	visit(t, address, "Jörg")
	anna.expect("* guest4 has come")
	anna.expect("* guest4 is Jörg now")
	stop()
	anna.expect("* The server ends")
	if line, err := anna.lines.ReadString('\n'); line != "" || err != io.EOF {
		t.Errorf("after the end of the server: %q, %v", line, err)
	}
}

func TestALineThatIsTooLong(t *testing.T) {
	t.Parallel()
	address, _ := serve(t)
	anna, bert := visit(t, address, "Anna"), visit(t, address, "Bert")
	anna.expect("* guest2 has come")
	anna.expect("* guest2 is Bert now")
	bert.say(strings.Repeat("x", 2000))
	anna.expect("* Bert has gone")
}

func TestFlags(t *testing.T) {
	t.Parallel()
	exampletest.Flags(t, run, map[string][]string{
		"not defined: -x":   {"-x"},
		"not an IP address": {"-listen", "example.com:0"},
	}, "-listen")
}
