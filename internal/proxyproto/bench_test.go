package proxyproto

import "testing"

func BenchmarkParse(b *testing.B) {
	ssl := SSL{Client: ClientSSL, TLVs: TLVs(tlv(TypeSSLVersion, "TLSv1.3") + tlv(TypeSSLCipher, "TLS_AES_128_GCM_SHA256"))}
	h := version2(tcp4)
	h.TLVs = TLVs(tlv(TypeCRC32C, "sum.") + tlv(TypeAuthority, "www.example.com") + tlv(TypeSSL, string(ssl.Append(nil))))
	tlvs, err := Append(nil, h)
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		data []byte
	}{
		{"v1TCP4", []byte("PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n")},
		{"v1TCP6", []byte("PROXY TCP6 2001:db8::a 2001:db8::b 65535 443\r\n")},
		{"v2TCP4", []byte(v2(0x21, 0x11, ports4))},
		{"v2TCP6", []byte(v2(0x21, 0x21, ports6))},
		{"v2TLVs", tlvs},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, _, err := Parse(bench.data); n != len(bench.data) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, MaxHeaderV1)
	for name, h := range map[string]Header{"v1TCP4": tcp4, "v2TCP4": version2(tcp4)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Append(buf, h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
