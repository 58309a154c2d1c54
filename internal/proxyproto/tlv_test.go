package proxyproto

import (
	"fmt"
	"strings"
	"testing"
)

func TestTLVs(t *testing.T) {
	tlvs := TLVs(tlv(TypeALPN, "h2") + tlv(TypeNoop, "") + tlv(TypeAuthority, "a.example") + tlv(TypeAuthority, "b.example") + tlv(TypeNetNS, "ns"))
	var got []string
	for typ, value := range tlvs.All() {
		got = append(got, fmt.Sprintf("%#x=%s", typ, value))
	}
	if want := "0x1=h2 0x4= 0x2=a.example 0x2=b.example 0x30=ns"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := tlvs.Text(TypeAuthority); got != "a.example" {
		t.Errorf("authority %q", got)
	}
	if value, ok := tlvs.Get(TypeNoop); !ok || len(value) != 0 {
		t.Errorf("an empty value: %q, %v", value, ok)
	}
	if value, ok := tlvs.Get(TypeUniqueID); ok || value != nil || tlvs.Text(TypeUniqueID) != "" {
		t.Errorf("no value: %q, %v", value, ok)
	}
	for range tlvs.All() {
		break // ends the iteration without a panic
	}
}

// TLVs need not come from Parse.
func TestTLVsThatAreCutOff(t *testing.T) {
	whole := TLVs(tlv(TypeALPN, "h2") + tlv(TypeSSL, "\x01\x00\x00\x00\x00"))
	for i := range whole {
		count := 0
		for range whole[:i:i].All() {
			count++
		}
		if want := min(i/5, 1); count != want {
			t.Errorf("%d records in %d bytes, want %d", count, i, want)
		}
		if s, ok := whole[:i:i].SSL(); ok {
			t.Errorf("%+v in %d bytes", s, i)
		}
	}
	if s, ok := TLVs(tlv(TypeSSL, "\x01\x00\x00\x00")).SSL(); ok {
		t.Errorf("%+v of a value that is too short", s)
	}
}

func TestSSL(t *testing.T) {
	sub := TLVs(tlv(TypeSSLVersion, "TLSv1.3") + tlv(TypeSSLCommonName, "client") + tlv(TypeSSLCipher, "TLS_AES_128_GCM_SHA256"))
	tlvs, err := AppendTLV(nil, TypeSSL, SSL{Client: ClientSSL | ClientCertConn, Verify: 0x01020304, TLVs: sub}.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := tlv(TypeSSL, "\x03\x01\x02\x03\x04"+string(sub)); string(tlvs) != want {
		t.Errorf("%q, want %q", tlvs, want)
	}
	s, ok := tlvs.SSL()
	if !ok || s.Client != 3 || s.Verify != 0x01020304 || s.TLVs.Text(TypeSSLVersion) != "TLSv1.3" || s.TLVs.Text(TypeSSLCommonName) != "client" ||
		s.TLVs.Text(TypeSSLCipher) != "TLS_AES_128_GCM_SHA256" {
		t.Errorf("%+v, %v", s, ok)
	}
}

func TestOnlyAVerifiedCertificateCounts(t *testing.T) {
	for _, test := range []struct {
		ssl  SSL
		want bool
	}{
		{SSL{}, false}, // what HAProxy sends for a client without TLS
		{SSL{Client: ClientSSL}, false},
		{SSL{Client: ClientCertConn | ClientCertSession}, false},
		{SSL{Client: ClientSSL | ClientCertConn, Verify: 1}, false},
		{SSL{Client: ClientSSL | ClientCertConn}, true},
		{SSL{Client: ClientSSL | ClientCertSession}, true},
		{SSL{Client: ClientSSL | ClientCertConn | ClientCertSession}, true},
	} {
		if got := test.ssl.Verified(); got != test.want {
			t.Errorf("%+v: %v", test.ssl, got)
		}
	}
	if ClientSSL != 1 || ClientCertConn != 2 || ClientCertSession != 4 {
		t.Error("the flags are not those of the specification")
	}
}

func TestAppendTLVRefusesWhatIsTooLong(t *testing.T) {
	before := TLVs(tlv(TypeNoop, ""))
	if got, err := AppendTLV(before, TypeALPN, make([]byte, 1<<16)); err == nil || string(got) != string(before) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := AppendTLV(before, TypeALPN, make([]byte, 1<<16-1)); err != nil || !got.wellFormed() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
