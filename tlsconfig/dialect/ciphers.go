package dialect

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/text"
)

// An OpenSSL cipher list is a small language (openssl-ciphers(1)): words that stand for sets of
// suites, joined by '+' into their intersection, added one after the other, with '!' taken out for
// good, with '-' taken out until a later word adds them again. Here it is that language over the
// suites that crypto/tls has.
//
// What would add something that crypto/tls does not have is an error, since to drop it in silence
// could leave another policy than was written. To exclude what is not there costs nothing, so
// "!aNULL:!MD5" is fine. What is only about order ('+word', @STRENGTH) is checked and has no
// effect: Go has its own order of preference.
//
// Suites with a weakness (no forward secrecy, 3DES, CBC with SHA-256) come in only by their full
// name, never by a word such as ALL. RC4 doesn't come in at all.

// A suite is what the words of a cipher list select by.
type suite struct {
	name  string // OpenSSL's
	id    uint16
	words string // the sets it is in, with a space before and after each
	weak  bool
}

const (
	ecdhe      = " ECDHE EECDH kECDHE kEECDH ECDH"
	ecdheECDSA = ecdhe + " ECDSA aECDSA"
	ecdheRSA   = ecdhe + " aRSA"
	plainRSA   = " RSA kRSA aRSA"

	gcm128    = " HIGH FIPS AES AES128 AESGCM TLSv1.2 "
	gcm256    = " HIGH FIPS AES AES256 AESGCM TLSv1.2 "
	chacha    = " HIGH CHACHA20 TLSv1.2 "
	cbc128    = " HIGH FIPS AES AES128 CBC SHA SHA1"
	cbc256    = " HIGH FIPS AES AES256 CBC SHA SHA1"
	cbcSHA256 = " HIGH FIPS AES AES128 CBC SHA256 TLSv1.2 "
	des3      = " MEDIUM 3DES CBC SHA SHA1"

	// The version that first had a suite.
	ssl3 = " SSLv3 "
	tls1 = " TLSv1 TLSv1.0 "
)

// suites are the suites of TLS 1.2 and below that crypto/tls has, but for RC4. The words are
// OpenSSL 3.0's, as "openssl ciphers -s -tls1_2 WORD@SECLEVEL=0" lists them.
var suites = []suite{
	{
		"ECDHE-ECDSA-AES128-GCM-SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		ecdheECDSA + gcm128,
		false,
	},
	{
		"ECDHE-RSA-AES128-GCM-SHA256",
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		ecdheRSA + gcm128,
		false,
	},
	{
		"ECDHE-ECDSA-AES256-GCM-SHA384",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		ecdheECDSA + gcm256,
		false,
	},
	{
		"ECDHE-RSA-AES256-GCM-SHA384",
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		ecdheRSA + gcm256,
		false,
	},
	{
		"ECDHE-ECDSA-CHACHA20-POLY1305",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		ecdheECDSA + chacha,
		false,
	},
	{
		"ECDHE-RSA-CHACHA20-POLY1305",
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		ecdheRSA + chacha,
		false,
	},
	{
		"ECDHE-ECDSA-AES128-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		ecdheECDSA + cbc128 + tls1,
		false,
	},
	{
		"ECDHE-RSA-AES128-SHA",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		ecdheRSA + cbc128 + tls1,
		false,
	},
	{
		"ECDHE-ECDSA-AES256-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		ecdheECDSA + cbc256 + tls1,
		false,
	},
	{
		"ECDHE-RSA-AES256-SHA",
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		ecdheRSA + cbc256 + tls1,
		false,
	},

	{"AES128-GCM-SHA256", tls.TLS_RSA_WITH_AES_128_GCM_SHA256, plainRSA + gcm128, true},
	{"AES256-GCM-SHA384", tls.TLS_RSA_WITH_AES_256_GCM_SHA384, plainRSA + gcm256, true},
	{"AES128-SHA", tls.TLS_RSA_WITH_AES_128_CBC_SHA, plainRSA + cbc128 + ssl3, true},
	{"AES256-SHA", tls.TLS_RSA_WITH_AES_256_CBC_SHA, plainRSA + cbc256 + ssl3, true},
	{"AES128-SHA256", tls.TLS_RSA_WITH_AES_128_CBC_SHA256, plainRSA + cbcSHA256, true},
	{
		"ECDHE-ECDSA-AES128-SHA256",
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
		ecdheECDSA + cbcSHA256,
		true,
	},
	{
		"ECDHE-RSA-AES128-SHA256",
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		ecdheRSA + cbcSHA256,
		true,
	},
	{
		"ECDHE-RSA-DES-CBC3-SHA",
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
		ecdheRSA + des3 + tls1,
		true,
	},
	{"DES-CBC3-SHA", tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, plainRSA + des3 + ssl3, true},
}

// absent are OpenSSL's words for what crypto/tls has no suite of at all. They may be excluded, not
// chosen.
const absent = " aNULL eNULL NULL COMPLEMENTOFDEFAULT COMPLEMENTOFALL ADH AECDH EXP EXPORT EXPORT40 EXPORT56 LOW " +
	"DES RC2 RC4 MD5 IDEA SEED CAMELLIA CAMELLIA128 CAMELLIA256 ARIA ARIA128 ARIA256 ARIAGCM AESCCM AESCCM8 CCM CCM8 " +
	"DH DHE EDH kDHE kEDH kDH kDHr kDHd aDH DSS aDSS kECDH kECDHr kECDHe aECDH " +
	"PSK kPSK kECDHEPSK kDHEPSK kRSAPSK aPSK SRP kSRP aSRP KRB5 GOST GOST94 GOST89MAC aGOST aGOST01 kGOST " +
	"SHA384 ECDHE-ECDSA-AES256-SHA384 ECDHE-RSA-AES256-SHA384 AES256-SHA256 "

// isAbsent reports whether word is a set in absent, or the name of a suite in one, such as
// DHE-RSA-AES128-SHA.
func isAbsent(word string) bool {
	if strings.Contains(absent, " "+word+" ") {
		return true
	}
	parts := strings.Split(word, "-")
	return len(parts) > 1 && slices.ContainsFunc(parts, func(part string) bool {
		// SHA384 is in names of GCM suites too.
		return part != "SHA384" && strings.Contains(absent, " "+part+" ")
	})
}

// in reports whether the suite is in the set that word stands for.
func (s *suite) in(word string) bool {
	return word == "ALL" || word == "DEFAULT" || word == s.name ||
		strings.Contains(s.words, " "+word+" ")
}

// selectSuites returns the suites that item stands for: a name, a word, or words joined by '+'.
// Weak suites are among them only if weak is set, or by their full name.
func selectSuites(item string, weak bool) (ids []uint16, err error) {
	words := strings.Split(item, "+")
	for _, word := range words {
		if word == "" || strings.ContainsAny(word, " \t\r\n") {
			return nil, unmapped(item, word) // would be found between two words of a table
		}
		inAny := func(s suite) bool { return s.in(word) }
		if !isAbsent(word) && !slices.ContainsFunc(suites, inAny) {
			return nil, unmapped(item, word)
		}
	}
	for i := range suites {
		s := &suites[i]
		inAll := !slices.ContainsFunc(words, func(word string) bool { return !s.in(word) })
		if inAll && (weak || !s.weak || item == s.name) {
			ids = append(ids, s.id)
		}
	}
	return ids, nil
}

// unmapped says why a word of item, or item as a whole, can't be had.
func unmapped(item, word string) error {
	why := "crypto/tls has no such suite or set of suites"
	switch {
	case strings.HasPrefix(word, "TLS_"):
		why = "the suites of TLS 1.3 can't be chosen in crypto/tls, all three are always on"
	case strings.Contains(word, "@"):
		why = "crypto/tls has no security levels"
	case slices.ContainsFunc(strings.Split(word, "+"), isAbsent):
		why = "crypto/tls has no suite of that kind (no finite-field DH, CCM, CAMELLIA, ARIA, PSK, SRP, RC4)"
	case slices.ContainsFunc(suites, func(s suite) bool { return s.in(word) }):
		why = "it has only weak suites, which have to be named in full"
	}
	if word == item {
		return fmt.Errorf("%s can't be mapped: %s; leave it out", text.Quoted(word), why)
	}
	return fmt.Errorf(
		"%s in %s can't be mapped: %s; leave it out",
		text.Quoted(word),
		text.Quoted(item),
		why,
	)
}

// parseCiphers returns the ids of the suites that an OpenSSL cipher list selects: at least one,
// each one once.
func parseCiphers(list string) ([]uint16, error) {
	var chosen, killed []uint16
	items := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":,; ", r) })
	for _, item := range items {
		if item == "@STRENGTH" {
			continue // order only
		}
		operator := item[0]
		if strings.IndexByte("!-+", operator) >= 0 {
			item = item[1:]
		} else {
			operator = 0
		}

		ids, err := selectSuites(item, operator != 0)
		if err != nil {
			return nil, err
		}
		switch operator {
		case '!', '-':
			chosen = slices.DeleteFunc(
				chosen,
				func(id uint16) bool { return slices.Contains(ids, id) },
			)
			if operator == '!' {
				killed = append(killed, ids...)
			}
		case '+': // order only
		default:
			if len(ids) == 0 {
				return nil, unmapped(item, item)
			}
			for _, id := range ids {
				if !slices.Contains(killed, id) && !slices.Contains(chosen, id) {
					chosen = append(chosen, id)
				}
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%s leaves no cipher suite", text.Quoted(list))
	}
	return chosen, nil
}
