package setting_test

import (
	"crypto/tls"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/whorl-go/whorl/internal/setting"
	"github.com/whorl-go/whorl/probe"
	"github.com/whorl-go/whorl/tlsconfig"
)

func TestReplace(t *testing.T) {
	name := func(setting string) string { return "<" + setting[:3] + ">" }
	for text, want := range map[string]string{
		"":                             "",
		"trust it by " + setting.Roots: "trust it by <Roo>",
		"set " + setting.ServerName + " to it, or " + setting.MinVersion + "; " + setting.Versions +
			" and " + setting.KeyFile + ".": "set <Ser> to it, or <Min>; <Min> and <Key>.",
		setting.KeyFile + " " + setting.CertFile: "<Key> <Cer>",
		"/etc/KeyFile.pem, MyKeyFile, KeyFiles":  "/etc/KeyFile.pem, MyKeyFile, KeyFiles",
		`"KeyFile" and CertFile`:                 `"KeyFile" and <Cer>`,
	} {
		if got := setting.Replace(text, name); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, s := range setting.All() {
		if got := setting.Replace("by "+s+".", func(found string) string {
			if found != s {
				t.Errorf("%q is taken for %q", s, found)
			}
			return "it"
		}); got != "by it." {
			t.Errorf("%q: %q", s, got)
		}
	}
}

// What is explained to people who may see neither Go's fields nor PHP's options names them by this
// package alone.
func TestSettingsAreNamedHereAlone(t *testing.T) {
	fields := map[string]bool{}
	for _, options := range []any{
		tls.Config{}, tlsconfig.ClientOptions{}, tlsconfig.ServerOptions{},
		tlsconfig.ServerCertificate{}, probe.Target{}, probe.Options{}, probe.FilesOptions{},
	} {
		for field := range reflect.TypeOf(options).Fields() {
			if strings.IndexFunc(field.Name[1:], func(r rune) bool { return r < 'a' }) >= 0 {
				fields[field.Name] = true // two words: one alone may be English
			}
		}
	}
	delete(fields, "ALPN")     // what everybody calls it
	delete(fields, "StartTLS") // what LDAP calls it
	words, option := regexp.MustCompile(`[A-Za-z_]+`), regexp.MustCompile(`^ssl_[a-z_]+$`)
	literals := 0
	for _, file := range sources(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok && looksFor(call) {
				return false // a text of crypto/tls's
			}
			literal, ok := node.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil || !strings.Contains(text, " ") {
				return true // the name of an option, not a sentence
			}
			literals++
			for _, word := range words.FindAllString(text, -1) {
				if fields[word] || option.MatchString(word) {
					t.Errorf("%s: %q names %s", file, text, word)
				}
			}
			return true
		})
	}
	if literals < 100 {
		t.Errorf("%d literals were looked at", literals)
	}
}

// looksFor reports whether a call compares texts.
func looksFor(call *ast.CallExpr) bool {
	switch called := call.Fun.(type) {
	case *ast.Ident:
		return called.Name == "has"
	case *ast.SelectorExpr:
		return called.Sel.Name == "Contains"
	}
	return false
}

// sources are the files of explanations. Those of tlsconfig that are left out speak of options to
// whoever has set them.
func sources(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{
		"../../probe/*.go", "../../tlsconfig/explain/*.go", "../../tlsconfig/[cks]*.go",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range found {
			base := filepath.Base(file)
			if !strings.HasSuffix(base, "_test.go") && base != "clientcerts.go" &&
				!strings.HasPrefix(base, "server") && base != "policy.go" { // which speaks to nginx
				files = append(files, file)
			}
		}
	}
	return files
}
