package packet_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing/iotest"

	"github.com/whorl-go/whorl/packet"
)

// A whole reader around a Framer: it owns the buffer, and a packet is valid until the next call of
// handle.
func ExampleFramer() {
	readPackets := func(r io.Reader, f packet.Framer, handle func(pkt []byte)) error {
		buf := make([]byte, 0, 16) // tiny, to show it grow
		start, atEOF := 0, false   // buf[start:] is not consumed yet
		for {
			n, pkt, err := f.Next(buf[start:], atEOF)
			if err != nil {
				return err
			}
			start += n
			if pkt != nil {
				handle(pkt)
			}
			if pkt != nil || n > 0 {
				continue
			}
			if atEOF && start < len(buf) {
				return io.ErrUnexpectedEOF // the last packet was cut off
			}
			if atEOF {
				return nil
			}

			// More bytes are needed: make room, at once as much as the packet takes if that is
			// known.
			buf = append(buf[:0], buf[start:]...)
			start = 0
			if room := max(f.Want(), len(buf)+1); room > cap(buf) {
				buf = append(make([]byte, 0, max(room, 2*cap(buf))), buf...)
			}
			n, err = r.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if err != nil && err != io.EOF {
				return err
			}
			atEOF = err == io.EOF
		}
	}

	f, err := packet.NewEOF("\r\n", 100)
	if err != nil {
		panic(err)
	}
	stream := iotest.OneByteReader(strings.NewReader("220 mail.example.com ESMTP\r\n250 ok\r\nQUI"))
	err = readPackets(stream, f, func(pkt []byte) { fmt.Printf("%q\n", pkt) })
	fmt.Println(err)
	// Output:
	// "220 mail.example.com ESMTP\r\n"
	// "250 ok\r\n"
	// unexpected EOF
}

func ExampleNewEOF() {
	f, err := packet.NewEOF("\r\n", 512)
	if err != nil {
		panic(err)
	}
	data := []byte("250-STARTTLS\r\n250 SIZE\r\n22")
	for {
		n, pkt, err := f.Next(data, false)
		if err != nil || pkt == nil {
			fmt.Printf("left over: %q %v\n", data, err)
			break
		}
		fmt.Printf("%q\n", pkt)
		data = data[n:]
	}
	// Output:
	// "250-STARTTLS\r\n"
	// "250 SIZE\r\n"
	// left over: "22" <nil>
}

// A header of a type byte and two bytes of length, which counts the body alone.
func ExampleNewLength() {
	f, err := packet.NewLength(packet.LengthField{Type: 'n', Offset: 1, BodyOffset: 3}, 1024)
	if err != nil {
		panic(err)
	}
	n, pkt, err := f.Next([]byte("T\x00\x05hel"), false)
	fmt.Println(n, pkt == nil, err, "wants", f.Want())
	n, pkt, err = f.Next([]byte("T\x00\x05hello T"), false)
	fmt.Printf("%d %q %v\n", n, pkt, err)

	f.Reset()
	_, _, err = f.Next([]byte("T\xff\xff"), false)
	fmt.Println(errors.Is(err, packet.ErrPacketTooLarge), err)
	// Output:
	// 0 true <nil> wants 8
	// 8 "T\x00\x05hello" <nil>
	// true packet too large: length 65535 and body offset 3, limit 1024 bytes
}

// HTTP/1 heads with a Content-Length have no length field that a letter of pack() describes.
func ExampleLengthField_func() {
	f, err := packet.NewLength(packet.LengthField{
		Func: func(header []byte) (int, error) {
			head, _, found := bytes.Cut(header, []byte("\r\n\r\n"))
			if !found {
				return 0, nil // more bytes are needed
			}
			var length int
			if _, err := fmt.Sscanf(string(head), "Content-Length: %d", &length); err != nil {
				return 0, err
			}
			return len(head) + 4 + length, nil
		},
	}, 8<<10)
	if err != nil {
		panic(err)
	}
	n, pkt, err := f.Next([]byte("Content-Length: 5\r\n\r\nhelloContent-"), false)
	fmt.Printf("%d %q %v\n", n, pkt, err)
	_, _, err = f.Next([]byte("Content-Type: text/plain\r\n\r\n"), false)
	fmt.Println(errors.Is(err, packet.ErrMalformed))
	// Output:
	// 26 "Content-Length: 5\r\n\r\nhello" <nil>
	// true
}

func ExampleNewSplit() {
	f, err := packet.NewSplit(bufio.ScanWords, 64)
	if err != nil {
		panic(err)
	}
	data := []byte("  EHLO   mail.example.com")
	n, pkt, _ := f.Next(data, false)
	fmt.Printf("%d %q\n", n, pkt)
	data = data[n:]

	n, pkt, _ = f.Next(data, false) // skips blanks; the word may go on
	fmt.Println(n, pkt == nil)
	data = data[n:]

	n, pkt, _ = f.Next(data, true) // the end of the stream ends the word
	fmt.Printf("%d %q\n", n, pkt)
	// Output:
	// 7 "EHLO"
	// 2 true
	// 16 "mail.example.com"
}
