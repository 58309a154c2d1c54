// Streams-unix is the AF_UNIX server of PHP's streams, ported: it serves at a path of the file
// system, to which file permissions apply.
//
//	go run ./examples/streams-unix
//
// starts the server, which turns lines round, has two clients talk to it at once, and ends:
//
//	client 1 hears ["desserts" "nalp a ,nam a"]
//	client 2 hears ["eßürG" ""]
//
// A path that an earlier server has left behind is taken over, one at which somebody answers is
// not.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/whorl-go/whorl/hooks/stream"
	"github.com/whorl-go/whorl/internal/program"
	"github.com/whorl-go/whorl/runtime"
)

const maxLine = 1024

// listen makes the server. A path that a server before has left is taken over, unless somebody
// still answers there.
func listen(ctx context.Context, path string) (*stream.Stream, error) {
	if s, err := stream.SocketClient(ctx, "unix://"+path, stream.WithTimeout(time.Second)); err == nil {
		s.Close()
		return nil, fmt.Errorf("a server is running at %s already", path)
	}
	_, err := runtime.Await(ctx, func() (any, error) {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, nil
		case err != nil:
			return nil, err
		case info.Mode().Type() != fs.ModeSocket:
			return nil, fmt.Errorf("%s is there, and is no socket", path)
		}
		return nil, os.Remove(path)
	})
	if err != nil {
		return nil, err
	}
	return stream.SocketServer(ctx, "unix://"+path)
}

// serve accepts until the listener is closed.
func serve(ctx context.Context, listener *stream.Stream) {
	for {
		s, err := stream.Accept(ctx, listener, -1)
		if err != nil {
			return
		}
		_, err = runtime.Go(ctx, func(ctx context.Context) {
			defer s.Close()
			for !s.EOF() {
				line, err := s.GetLine(ctx, maxLine, "\n")
				if err != nil {
					return
				}
				letters := []rune(line)
				slices.Reverse(letters)
				if _, err := s.Write(ctx, []byte(string(letters)+"\n")); err != nil {
					return
				}
			}
		})
		if err != nil {
			s.Close()
		}
	}
}

func main() { program.Main("streams-unix", program.WithoutFlags("streams-unix", run)) }

func run(stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "whorl-unix") // for this user alone
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "reverse.sock")
	var answers [2][]string
	err = runtime.Run(func(ctx context.Context) error {
		listener, err := listen(ctx, path)
		if err != nil {
			return err
		}
		defer listener.Close()
		if _, err := runtime.Go(ctx, func(ctx context.Context) { serve(ctx, listener) }); err != nil {
			return err
		}
		return runtime.ForEach(ctx, len(answers), func(ctx context.Context, i int) (err error) {
			answers[i], err = talk(
				ctx,
				path,
				[][]string{{"stressed", "a man, a plan"}, {"Grüße", ""}}[i],
			)
			return err
		})
	})
	for i, lines := range answers {
		fmt.Fprintf(stdout, "client %d hears %q\n", i+1, lines)
	}
	return err
}

// talk sends lines and returns the answers.
func talk(ctx context.Context, path string, lines []string) (answers []string, err error) {
	s, err := stream.SocketClient(ctx, "unix://"+path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, line := range lines {
		if _, err := s.Write(ctx, []byte(line+"\n")); err != nil {
			return nil, err
		}
		answer, err := s.GetLine(ctx, maxLine, "\n")
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return answers, nil
}
