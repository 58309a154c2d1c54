//go:build unix

package eventloop_test

import (
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-go/whorl/eventloop"
)

func Example() {
	loop, err := eventloop.New(eventloop.Config{Name: "example"})
	if err != nil {
		log.Fatal(err)
	}
	go loop.Post(func() {
		fmt.Println("posted from another goroutine, runs on the loop:", loop.OnLoop())
		loop.Defer(func() {
			fmt.Println("at the end of the same iteration")
			loop.Close()
		})
	})
	if err := loop.Run(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed")
	// Output:
	// posted from another goroutine, runs on the loop: true
	// at the end of the same iteration
	// closed
}

// Before Run, everything is allowed to the goroutine that sets the loop up.
func ExampleLoop_AfterFunc() {
	loop, err := eventloop.New(eventloop.Config{})
	if err != nil {
		log.Fatal(err)
	}
	timeOut := loop.AfterFunc(time.Minute, func() { fmt.Println("timed out") })
	loop.AfterFunc(5*time.Millisecond, func() { fmt.Println("after 5 ms") })
	loop.AfterFunc(10*time.Millisecond, func() {
		fmt.Println("after 10 ms; the time-out was set:", timeOut.Stop())
		loop.Close()
	})
	loop.Run()
	// Output:
	// after 5 ms
	// after 10 ms; the time-out was set: true
}

// pipeReader owns a descriptor and its registration.
type pipeReader struct {
	eventloop.Descriptor
	loop *eventloop.Loop
	fd   int
}

func (r *pipeReader) HandleEvents(events eventloop.Events) {
	buf := make([]byte, 1024)
	switch n, err := unix.Read(r.fd, buf); {
	case n > 0:
		fmt.Printf("read %q\n", buf[:n])
	case n == 0:
		fmt.Println("end of file")
		r.Unregister()
		r.loop.Close()
	case err != unix.EAGAIN:
		log.Fatal(err)
	}
}

func ExampleLoop_Register() {
	loop, err := eventloop.New(eventloop.Config{})
	if err != nil {
		log.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		log.Fatal(err)
	}
	reader := &pipeReader{loop: loop, fd: pipe[0]}
	defer unix.Close(reader.fd)
	if err := loop.Register(&reader.Descriptor, reader.fd, eventloop.Readable, reader); err != nil {
		log.Fatal(err)
	}
	loop.AfterFunc(time.Millisecond, func() { unix.Write(pipe[1], []byte("hello")) })
	loop.AfterFunc(2*time.Millisecond, func() { unix.Close(pipe[1]) })
	loop.Run()
	// Output:
	// read "hello"
	// end of file
}
