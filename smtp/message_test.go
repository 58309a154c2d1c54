//go:build linux

package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/whorl-go/whorl/smtp"
)

// pieces is a message that is written in pieces.
type pieces []string

func (p pieces) WriteTo(w io.Writer) (n int64, err error) {
	for _, piece := range p {
		m, err := io.WriteString(w, piece)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// sent returns messages as a server gets them.
func sent(ctx context.Context, t *testing.T, messages ...io.WriterTo) (got []string) {
	t.Helper()
	m := &mta{keywords: []string{"PIPELINING", "8BITMIME", "SMTPUTF8"}}
	c := dial(ctx, t, m.start(t), plaintext())
	for _, message := range messages {
		_, err := c.Send(ctx, &smtp.Mail{From: "a@a.test", To: []string{"b@b.test"},
			Message: message})
		check(t, err)
	}
	for _, mail := range m.received() {
		got = append(got, mail.text)
	}
	return got
}

// No server sees an end where another one doesn't: SMTP smuggling.
func TestLineEnds(t *testing.T) {
	tests := [][2]string{ // bodies
		{"", ""}, {"a", "a\r\n"}, {"a\r\n", "a\r\n"}, {"a\n", "a\r\n"}, {"a\r", "a\r\n"},
		{"\n", "\r\n"}, {"\r", "\r\n"},
		{"a\n\nb\r\rc\r\n\r\nd", "a\r\n\r\nb\r\n\r\nc\r\n\r\nd\r\n"},
		{".", "..\r\n"}, {"..\n", "...\r\n"}, {"a.\n.b\n", "a.\r\n..b\r\n"},
		{"a\n.\nMAIL FROM:<x@y>\n", "a\r\n..\r\nMAIL FROM:<x@y>\r\n"},
		{"a\n.\r\nb", "a\r\n..\r\nb\r\n"},
		{"a\r\n.\nb", "a\r\n..\r\nb\r\n"},
		{"a\r.\rb", "a\r\n..\r\nb\r\n"},
		{"a\r.\r\nb", "a\r\n..\r\nb\r\n"},
		{"a\r\r\n.\r\r\nb", "a\r\n\r\n..\r\n\r\nb\r\n"},
		{"a\n\r.\n\rb", "a\r\n\r\n..\r\n\r\nb\r\n"},
		{"a\x00b", "a\x00b\r\n"},
	}
	coroutine(t, func(ctx context.Context, t *testing.T) {
		var whole, single []io.WriterTo
		for _, test := range tests {
			whole = append(whole, pieces{"H: x\r\n\r\n" + test[0]})
			single = append(single, pieces(strings.Split("H: x\r\n\r\n"+test[0], "")))
		}
		for _, got := range [][]string{sent(ctx, t, whole...), sent(ctx, t, single...)} {
			if len(got) != len(tests) {
				t.Fatalf("%d messages of %d", len(got), len(tests))
			}
			for i, test := range tests {
				if want := "H: x\r\n\r\n" + test[1]; got[i] != want {
					t.Errorf("%q was sent as %q, want %q", test[0], got[i], want)
				}
			}
		}
	})
}

func TestLargeMessages(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		text := "Subject: large\r\n\r\n" + strings.Repeat(".a line\r\n", 1<<20/9) +
			strings.Repeat("x", 200_000) + "\r\n"
		want := strings.ReplaceAll(text, "\r\n.", "\r\n..")
		for i, got := range sent(ctx, t, strings.NewReader(text),
			pieces(strings.SplitAfter(text, "\n")),
			smtp.Reader(iotest.HalfReader(strings.NewReader(text))),
			smtp.Reader(strings.NewReader(strings.ReplaceAll(text, "\r\n", "\n")))) {
			if got != want {
				t.Errorf("message %d came with %d bytes, want %d", i, len(got), len(want))
			}
		}
	})
}

// Nothing is sent of a mail whose header has what a program wouldn't write.
func TestHeaderInjection(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		c := dial(ctx, t, m.start(t), plaintext())
		for _, text := range []string{
			"Subject: x\nBcc: a@b\r\n\r\nbody", "Subject: x\r\nBcc: a@b\n\r\nbody",
			"Subject: x\rBcc: a@b\r\n\r\nbody", "Subject: x\x00\r\n\r\nbody",
			"Subject: x\r\r\n\r\n",
		} {
			_, err := c.Send(ctx, letter(text, "a@a.test"))
			wantError(t, text, err, smtp.ErrInvalid)
		}
		for _, mail := range []*smtp.Mail{
			letter("x", "a@a.test\r\nRSET"), letter("x", "a@a.test", ""), letter("x"),
			{From: "a\n@b", To: []string{"c@d"}, Message: pieces{"x"}},
			{From: "a@b", To: []string{"c@d"}},
			{From: "a@b", To: []string{"c@d"}, Message: pieces{"x"},
				DSN: smtp.DSN{EnvelopeID: "\r\n"}},
		} {
			_, err := c.Send(ctx, mail)
			if _, ok := errors.AsType[*smtp.ExtensionError](err); !ok {
				wantError(t, "mail", err, smtp.ErrInvalid)
			}
		}
		_, err := c.Send(ctx, letter("Subject: x\r\n\r\ngood\n", "a@a.test"))
		check(t, err)
		if got := m.received(); len(got) != 1 || got[0].text != "Subject: x\r\n\r\ngood\r\n" {
			t.Errorf("%+v", got)
		}
	})
}

func TestMessageThatFails(t *testing.T) {
	gone := errors.New("gone")
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		address := m.start(t)
		c := dial(ctx, t, address, plaintext())
		_, err := c.Send(ctx, &smtp.Mail{To: []string{"a@b"},
			Message: smtp.Reader(iotest.ErrReader(gone))})
		wantError(t, "at once", err, gone)
		check(t, c.Noop(ctx)) // nothing was sent
		large := io.MultiReader(strings.NewReader(strings.Repeat("x", 300_000)),
			iotest.ErrReader(gone))
		_, err = c.Send(ctx, &smtp.Mail{To: []string{"a@b"}, Message: smtp.Reader(large)})
		wantError(t, "in the middle", err, gone)
		wantError(t, "Noop afterwards", c.Noop(ctx), net.ErrClosed)
		if got := m.received(); len(got) > 0 {
			t.Errorf("%d mails have come", len(got))
		}
	})
}

func TestMailsNeedExtensions(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := &mta{keywords: []string{"SIZE 100"}}
		c := dial(ctx, t, m.start(t), plaintext())
		for keyword, mail := range map[string]*smtp.Mail{
			"8BITMIME":   letter("Subject: x\n\nä", "a@b"),
			"SMTPUTF8":   letter("x", "ä@b"),
			"CHUNKING":   {To: []string{"a@b"}, Message: pieces{"x"}, Binary: true},
			"REQUIRETLS": {To: []string{"a@b"}, Message: pieces{"x"}, RequireTLS: true},
			"DSN": {To: []string{"a@b"}, Message: pieces{"x"},
				DSN: smtp.DSN{Return: "FULL"}},
			"MT-PRIORITY": {To: []string{"a@b"}, Message: pieces{"x"}, Priority: 2},
		} {
			_, err := c.Send(ctx, mail)
			if missing, ok := errors.AsType[*smtp.ExtensionError](err); !ok ||
				missing.Keyword != keyword {
				t.Errorf("%s: %v", keyword, err)
			}
		}
		_, err := c.Send(ctx, letter(strings.Repeat("x", 200), "a@b"))
		if size, ok := errors.AsType[*smtp.SizeError](err); !ok || size.Size != 202 ||
			size.Limit != 100 {
			t.Errorf("%v", err)
		}
		check(t, c.Quit(ctx))
	})
}

// The size of a file is known before any of it is sent, however large it is.
func TestSizeOfLargeMessages(t *testing.T) {
	const size = 300_000
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abc\r\n", size/15-2)
	text += strings.Repeat("x", size-len(text)-2) + "\r\n"
	file, err := os.Create(filepath.Join(t.TempDir(), "mail"))
	check(t, err)
	defer file.Close()
	_, err = io.WriteString(file, "before"+text)
	check(t, err)
	_, err = file.Seek(int64(len("before")), io.SeekStart)
	check(t, err)
	for name, message := range map[string]io.WriterTo{
		"file":           file,
		"Reader, file":   smtp.Reader(file),
		"Reader, part":   smtp.Reader(io.NewSectionReader(file, int64(len("before")), size)),
		"strings.Reader": strings.NewReader(text),
		"bytes.Reader":   bytes.NewReader([]byte(text)),
		"bytes.Buffer":   bytes.NewBufferString(text),
	} {
		t.Run(name, func(t *testing.T) {
			coroutine(t, func(ctx context.Context, t *testing.T) {
				m := &mta{keywords: []string{fmt.Sprint("SIZE ", size)}}
				small := &mta{keywords: []string{fmt.Sprint("SIZE ", size-1)}}
				mail := &smtp.Mail{To: []string{"a@b"}, Message: message}
				c := dial(ctx, t, small.start(t), plaintext())
				_, err := c.Send(ctx, mail)
				too, ok := errors.AsType[*smtp.SizeError](err)
				if !ok || too.Size != size || too.Limit != size-1 {
					t.Errorf("%v", err)
				}
				check(t, c.Noop(ctx)) // nothing was sent
				_, err = dial(ctx, t, m.start(t), plaintext()).Send(ctx, mail)
				check(t, err)
				if got := m.received(); got[0].from != fmt.Sprintf("MAIL FROM:<> SIZE=%d", size) ||
					got[0].text != text {
					t.Errorf("%s, %d bytes", got[0].from, len(got[0].text))
				}
			})
		})
	}
}

// onward is a Seeker that can't go back.
type onward struct{ *strings.Reader }

func (o onward) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		return 0, errors.New("there is no way back")
	}
	return o.Reader.Seek(offset, whence)
}

// Half a message is not sent as if it were all of it.
func TestMessageThatIsAtItsEndAfterALookAtItsSize(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		c := dial(ctx, t, m.start(t), plaintext())
		text := onward{strings.NewReader(strings.Repeat("0123456789abc\r\n", 20_000))}
		_, err := c.Send(ctx, &smtp.Mail{To: []string{"a@b"}, Message: smtp.Reader(text)})
		if err == nil || !strings.Contains(err.Error(), "no way back") {
			t.Errorf("%v", err)
		}
		check(t, c.Noop(ctx)) // nothing was sent
		if got := m.received(); len(got) > 0 {
			t.Errorf("%d bytes were sent", len(got[0].text))
		}
	})
}

func TestMailsCanBeSentAgain(t *testing.T) {
	coroutine(t, func(ctx context.Context, t *testing.T) {
		m := new(mta)
		c := dial(ctx, t, m.start(t), plaintext())
		read := strings.NewReader("text, and more")
		read.Seek(6, io.SeekStart)
		for _, message := range []io.WriterTo{read, smtp.Reader(read),
			bytes.NewBufferString("and more")} {
			mail := &smtp.Mail{To: []string{"a@b"}, Message: message}
			for range 2 {
				_, err := c.Send(ctx, mail)
				check(t, err)
				if got := m.received(); got[len(got)-1].text != "and more\r\n" {
					t.Errorf("%T: %q", message, got[len(got)-1].text)
				}
			}
		}
		mail := &smtp.Mail{To: []string{"a@b"},
			Message: smtp.Reader(iotest.HalfReader(strings.NewReader("text")))}
		_, err := c.Send(ctx, mail)
		check(t, err)
		_, err = c.Send(ctx, mail)
		wantError(t, "a Reader that was read", err, smtp.ErrMessageGone)
		check(t, c.Noop(ctx))
	})
}

// pipe returns the end of a pipe from which a text is read: a file that can't be set back.
func pipe(t *testing.T, text string) *os.File {
	r, w, err := os.Pipe()
	check(t, err)
	t.Cleanup(func() { r.Close() })
	_, err = io.WriteString(w, text)
	check(t, err)
	check(t, w.Close())
	return r
}

func TestReadersAreReadOnceOrSetBack(t *testing.T) {
	for _, test := range []struct {
		message io.WriterTo
		gone    bool
	}{
		{smtp.Reader(iotest.HalfReader(strings.NewReader("text"))), true},
		{smtp.Reader(strings.NewReader("text")), false},
		{smtp.Reader(pipe(t, "text")), true},
		{pipe(t, "text"), true},
		{strings.NewReader("text"), false},
		{bytes.NewReader([]byte("text")), false},
		{bytes.NewBufferString("text"), false},
		{pieces{"te", "xt"}, false},
	} {
		coroutine(t, func(ctx context.Context, t *testing.T) {
			failures := 2
			m := &mta{hook: func(_ *script, line string) string {
				if line == "." && failures > 0 {
					failures--
					return "451 not now\r\n"
				}
				return ""
			}}
			p := pool(t, smtp.PoolConfig{Address: m.start(t), Config: plaintext(), FirstDelay: 1})
			_, err := p.Send(ctx, &smtp.Mail{To: []string{"a@b"}, Message: test.message})
			if test.gone {
				wantError(t, "a Reader", err, smtp.ErrMessageGone)
				return
			}
			check(t, err)
			if got := m.received(); len(got) != 1 || got[0].text != "text\r\n" {
				t.Errorf("%T: %+v", test.message, got)
			}
		})
	}
}
