package dialect

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/tlstest"
)

// suiteNames returns the OpenSSL names of suites, with the common parts left out, for short tables.
func suiteNames(ids []uint16) string {
	var out []string
	for _, id := range ids {
		for _, s := range suites {
			if s.id == id {
				out = append(out, s.name)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestCipherLists(t *testing.T) {
	const (
		gcm    = "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384"
		chacha = "ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305"
		cbc    = "ECDHE-ECDSA-AES128-SHA ECDHE-RSA-AES128-SHA ECDHE-ECDSA-AES256-SHA ECDHE-RSA-AES256-SHA"
		all    = gcm + " " + chacha + " " + cbc
	)
	for list, want := range map[string]string{
		"ECDHE-RSA-AES128-GCM-SHA256":            "ECDHE-RSA-AES128-GCM-SHA256",
		"AES128-SHA":                             "AES128-SHA", // weak, but by its full name
		"DES-CBC3-SHA:ECDHE-ECDSA-AES128-SHA256": "DES-CBC3-SHA ECDHE-ECDSA-AES128-SHA256",
		"DEFAULT":                                all,
		"ALL":                                    all,
		"HIGH:!aNULL:!MD5:!RC4:!DHE-RSA-AES128-SHA": all,
		"EECDH+AESGCM":            gcm,
		"ECDH+AESGCM":             gcm,
		"kEECDH+CHACHA20":         chacha,
		"HIGH:!CBC":               gcm + " " + chacha,
		"HIGH:!SHA1":              gcm + " " + chacha,
		"HIGH:!TLSv1":             gcm + " " + chacha,
		"HIGH:!SSLv3":             all,
		"HIGH:-SHA:@STRENGTH":     gcm + " " + chacha,
		"HIGH,!SHA AESGCM;!aNULL": gcm + " " + chacha,
		"!CHACHA20:HIGH:CHACHA20": gcm + " " + cbc,
		"AESGCM:-AESGCM:CHACHA20:AESGCM+aRSA+AES256":    chacha + " ECDHE-RSA-AES256-GCM-SHA384",
		"HIGH:+AES256:!AES128:!CHACHA20:!SHA:!ECDSA":    "ECDHE-RSA-AES256-GCM-SHA384",
		"AES128-SHA:HIGH:!kRSA:!AESGCM:!CHACHA20":       cbc,
		"AES256+EECDH:!SHA":                             "ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-AES128-SHA:ECDHE+AES128+SHA+TLSv1": "ECDHE-ECDSA-AES128-SHA ECDHE-RSA-AES128-SHA",
	} {
		ids, err := parseCiphers(list)
		if err != nil || suiteNames(ids) != want {
			t.Errorf("%s: got %s, %v; want %s", list, suiteNames(ids), err, want)
		}
	}
}

func TestCipherListsThatCannotBeMapped(t *testing.T) {
	for list, want := range map[string]string{
		"":                            "leaves no cipher suite",
		":::":                         "leaves no cipher suite",
		"HIGH:!ALL":                   "leaves no cipher suite",
		"HIGH:FROB":                   `"FROB"`,
		"HIGH:!FROB":                  `"FROB"`,
		"HIGH:!":                      `""`,
		"+":                           `""`,
		"HIGH:EECDH+FROB":             `"FROB" in "EECDH+FROB"`,
		"EECDH+AESGCM:EDH+AESGCM":     `"EDH+AESGCM" can't be mapped: crypto/tls has no suite of that kind`,
		"DHE-RSA-AES128-GCM-SHA256":   "no finite-field DH",
		"RC4":                         `"RC4"`,
		"ECDHE-RSA-RC4-SHA":           `"ECDHE-RSA-RC4-SHA"`,
		"ECDHE-RSA-AES256-SHA384":     `"ECDHE-RSA-AES256-SHA384"`,
		"3DES":                        "named in full",
		"RSA":                         "named in full",
		"TLS_AES_128_GCM_SHA256":      "TLS 1.3",
		"DEFAULT@SECLEVEL=1":          "security levels",
		"HIGH:@SECLEVEL=2":            "security levels",
		"high":                        `"high"`,
		"HIGH:\nHIGH":                 `"\nHIGH"`,
		"HIGH\tALL":                   `"HIGH\tALL"`,
		strings.Repeat("x", 1_000_00): "…",
	} {
		ids, err := parseCiphers(list)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.50q: got %s, %v; want an error with %s", list, suiteNames(ids), err, want)
			continue
		}
		tlstest.CheckLine(t, err.Error())
	}
}

// The table is complete for what crypto/tls has, and calls weak what crypto/tls calls insecure.
func TestCipherTable(t *testing.T) {
	check := func(list []*tls.CipherSuite, weak bool) {
		for _, s := range list {
			if strings.Contains(s.Name, "RC4") || s.SupportedVersions[0] == tls.VersionTLS13 {
				continue
			}
			i := slices.IndexFunc(suites, func(own suite) bool { return own.id == s.ID })
			if i < 0 || suites[i].weak != weak {
				t.Errorf("%s is missing, or wrongly weak", s.Name)
			}
		}
	}
	check(tls.CipherSuites(), false)
	check(tls.InsecureCipherSuites(), true)
}

func FuzzParseCiphers(f *testing.F) {
	for _, list := range []string{
		"HIGH:!aNULL:!MD5", "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH", "DEFAULT@SECLEVEL=1", "ALL:-SHA:+RSA:@STRENGTH",
		"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", "!!", "+++", "AES128-SHA,  DES-CBC3-SHA", "\x00:\xff",
	} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		ids, err := parseCiphers(list)
		if err != nil {
			if ids != nil {
				t.Error("suites and an error")
			}
			tlstest.CheckLine(t, err.Error())
			return
		}
		if len(ids) == 0 {
			t.Error("neither suites nor an error")
		}
		for i, id := range ids {
			own := slices.IndexFunc(suites, func(s suite) bool { return s.id == id })
			if own < 0 || slices.Contains(ids[:i], id) {
				t.Errorf("suite %04x is unknown or there twice", id)
			} else if suites[own].weak && !strings.Contains(list, suites[own].name) {
				t.Errorf("weak suite %s was not named", suites[own].name)
			}
		}
	})
}
