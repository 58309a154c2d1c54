//go:build unix

package program_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/whorl-go/whorl/internal/childtest"
	"github.com/whorl-go/whorl/internal/leaktest"
	"github.com/whorl-go/whorl/internal/program"
)

// A signal that comes twice, as timeout(1) has it, is one: the program still comes to its end.
func TestASignalThatComesTwiceIsOne(t *testing.T) {
	if childtest.Is(t) {
		ctx, stop := program.InterruptedWithin(context.Background(), time.Hour)
		defer stop()
		fmt.Println("ready")
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond) // for what would be done at once
		fmt.Println("told")
		fmt.Scanln() // the second one has been sent
		fmt.Println("done")
		return
	}
	cmd := childtest.Command(t)
	in, err := cmd.StdinPipe()
	leaktest.Check(t, err)
	out, err := cmd.StdoutPipe()
	leaktest.Check(t, err)
	leaktest.Check(t, cmd.Start())
	said := bufio.NewScanner(out)
	for _, word := range []string{"ready", "told"} {
		if !said.Scan() || said.Text() != word {
			t.Fatalf("it has said %q", said.Text())
		}
		leaktest.Check(t, cmd.Process.Signal(syscall.SIGINT))
	}
	leaktest.Check(t, in.Close())
	if !said.Scan() || said.Text() != "done" {
		t.Errorf("it has said %q", said.Text())
	}
	for said.Scan() { // the end of the test binary
	}
	leaktest.Check(t, cmd.Wait())
}

// Who asks again ends a program that doesn't come to its end.
func TestASecondSignalEndsTheProcess(t *testing.T) {
	if childtest.Is(t) {
		ctx, stop := program.InterruptedWithin(context.Background(), time.Millisecond)
		defer stop()
		fmt.Println("ready")
		<-ctx.Done()
		select {}
	}
	cmd := childtest.Command(t)
	out, err := cmd.StdoutPipe()
	leaktest.Check(t, err)
	leaktest.Check(t, cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	leaktest.Until(t, "it has ended", func() bool {
		cmd.Process.Signal(syscall.SIGTERM)
		return len(ended) > 0
	})
	exit, ok := errors.AsType[*exec.ExitError](<-ended)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("it has ended with %v", exit)
	}
}
