package proxyproto

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// What is accepted is accepted at the same place however it is cut, and is what Append makes of it.
func FuzzParse(f *testing.F) {
	for _, test := range valid {
		f.Add([]byte(test.data+application), DefaultLimit)
	}
	for _, test := range invalid {
		f.Add([]byte(test.data), DefaultLimit)
	}
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		n, h, err := ParseLimit(data, limit)
		end := n
		if n == 0 {
			end = len(data)
		}
		expectSameInPieces(t, data[:end], limit, n, err)
		if n == 0 {
			if !reflect.DeepEqual(h, Header{}) || Want(data) < 0 {
				t.Fatalf("%+v without a header, it wants %d", h, Want(data))
			}
			return
		}
		if err != nil || n < 0 || n > len(data) || n > max(limit, MaxHeaderV1) || Want(data) != n {
			t.Fatalf("%d bytes of %d, limit %d, error %v, it wants %d", n, len(data), limit, err, Want(data))
		}
		again, err := Append(nil, h)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if canonical(data[:n], h) && !bytes.Equal(again, data[:n]) {
			t.Fatalf("%q became %q", data[:n], again)
		}
		if m, back, err := ParseLimit(again, MaxHeaderV2); m != len(again) || err != nil || !reflect.DeepEqual(back, h) {
			t.Fatalf("%+v became %+v, %d of %d bytes, %v", h, back, m, len(again), err)
		}
	})
}

// expectSameInPieces parses prefixes of data, which is one header, a beginning of one, or refused.
func expectSameInPieces(t *testing.T, data []byte, limit, n int, want error) {
	step := 1 + len(data)/200
	refused := false
	for i := 0; i <= len(data); i += step {
		piece := data[:i:i]
		m, _, err := ParseLimit(piece, limit)
		switch {
		case refused && err == nil:
			t.Fatalf("no longer refused after %d bytes of %q", i, data)
		case err != nil && (want == nil || !errors.Is(want, reasonOf(err))):
			t.Fatalf("%v after %d bytes of %q, %v in the end", err, i, data, want)
		case m != 0 && (m != n || i < n):
			t.Fatalf("%d after %d bytes of %q, %d in the end", m, i, data, n)
		case m == 0 && err == nil && Want(piece) <= i:
			t.Fatalf("it wants %d after %d bytes of %q", Want(piece), i, data)
		case n > 0 && Want(piece) > n:
			t.Fatalf("it wants %d after %d bytes of %q", Want(piece), i, data)
		}
		refused = err != nil
	}
}

func reasonOf(err error) error {
	for _, reason := range []error{ErrNotProxy, ErrTooLong, ErrMalformed} {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return errors.New("none of the documented ones")
}

// canonical reports whether the specification leaves only one way to write the header.
func canonical(header []byte, h Header) bool {
	switch {
	case h.Version == 1 && h.Network == "tcp6":
		return false // an address has several notations
	case strings.HasPrefix(h.Network, "unix"):
		return false // what is behind a path doesn't matter
	case h.Network == "":
		return len(header) == sizeV2+len(h.TLVs) && header[13] == 0 || string(header) == "PROXY UNKNOWN\r\n"
	}
	return true
}

// What Append writes says the same when it is read.
func FuzzAppend(f *testing.F) {
	f.Add(2, false, "tcp4", []byte{192, 0, 2, 1}, uint16(1), []byte{192, 0, 2, 2}, uint16(2), "", "", []byte(tlv(TypeCRC32C, "sum.")))
	f.Add(1, false, "tcp6", []byte(ip6a), uint16(1), []byte(ip6b), uint16(2), "", "", []byte(nil))
	f.Add(2, false, "unix", []byte(nil), uint16(0), []byte(nil), uint16(0), "/a", "@b", []byte(nil))
	f.Add(2, true, "", []byte(nil), uint16(0), []byte(nil), uint16(0), "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, version int, local bool, network string, src []byte, srcPort uint16, dst []byte, dstPort uint16,
		srcPath, dstPath string, tlvs []byte) {
		h := Header{Version: version, Local: local, Network: network, SourcePath: srcPath, DestinationPath: dstPath, TLVs: tlvs}
		srcIP, _ := netip.AddrFromSlice(src)
		dstIP, _ := netip.AddrFromSlice(dst)
		h.Source, h.Destination = netip.AddrPortFrom(srcIP, srcPort), netip.AddrPortFrom(dstIP, dstPort)
		data, err := Append([]byte("before"), h)
		if err != nil {
			if string(data) != "before" {
				t.Fatalf("%v, and %q was written", err, data)
			}
			return
		}
		data = data[len("before"):]
		n, got, err := ParseLimit(data, MaxHeaderV2)
		if n != len(data) || err != nil || got.Version != version || got.Local != local || got.Network != network || len(got.TLVs) != len(tlvs) {
			t.Fatalf("%+v became %q, which became %d, %+v, %v", h, data, n, got, err)
		}
		switch network {
		case "":
		case "unix", "unixgram":
			if got.SourcePath != srcPath || got.DestinationPath != dstPath {
				t.Fatalf("%q, %q became %q, %q", srcPath, dstPath, got.SourcePath, got.DestinationPath)
			}
		default:
			if got.Source.Addr().Unmap() != srcIP.Unmap() || got.Destination.Addr().Unmap() != dstIP.Unmap() ||
				got.Source.Port() != srcPort || got.Destination.Port() != dstPort {
				t.Fatalf("%+v became %+v", h, got)
			}
		}
	})
}

func FuzzTrusted(f *testing.F) {
	for _, source := range []string{"10.0.0.0/8", "127.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "unix", "::/0"} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		trusted, err := ParseTrusted(source)
		if err != nil || source == "unix" {
			return
		}
		first := trusted.prefixes[0].Addr()
		for _, ip := range []netip.Addr{first, netip.AddrFrom16(first.As16())} {
			if !trusted.Contains(tcp(netip.AddrPortFrom(ip, 1).String())) {
				t.Fatalf("%q doesn't contain %s", source, ip)
			}
		}
	})
}
