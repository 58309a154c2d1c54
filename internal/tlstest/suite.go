package tlstest

import (
	"testing"
	_ "unsafe" // for linkname
)

// The suites of TLS 1.3 that crypto/tls offers and chooses from. They aren't configurable, but may
// be reached by whoever needs it: it says so where it declares them.
//
//go:linkname suitesTLS13 crypto/tls.defaultCipherSuitesTLS13
var suitesTLS13 []uint16

//go:linkname suitesTLS13NoAES crypto/tls.defaultCipherSuitesTLS13NoAES
var suitesTLS13NoAES []uint16

// OnlySuite has all handshakes of TLS 1.3 end with one suite, until the end of the test. None may
// be under way at the call and at the end.
func OnlySuite(t testing.TB, id uint16) {
	t.Helper()
	with, without := suitesTLS13, suitesTLS13NoAES
	t.Cleanup(func() { suitesTLS13, suitesTLS13NoAES = with, without })
	suitesTLS13, suitesTLS13NoAES = []uint16{id}, []uint16{id}
}
