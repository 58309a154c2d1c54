// Package docs_test checks the names that the pages use against the code.
package docs_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ours are the packages whose names the pages may use, by what they are called in code.
var ours = map[string]string{
	"runtime": "runtime", "event": "defer", "eventloop": "eventloop", "socket": "socket",
	"packet": "packet", "client": "client", "server": "server", "hooks": "hooks",
	"stream": "hooks/stream", "swoole": "swoole", "starttls": "starttls", "smtp": "smtp",
	"websocket": "websocket", "tlsconfig": "tlsconfig", "dialect": "tlsconfig/dialect",
	"explain": "tlsconfig/explain", "devca": "tlsconfig/devca", "metrics": "metrics",
	"whorltest": "whorltest", "probe": "probe", "cluster": "cluster",
	"brokertest": "cluster/brokertest", "nats": "cluster/nats",
}

// standard are those of Go's library that the guide for ported code refers to. Where both have a
// package of one name, it is Whorl's that is meant.
var standard = map[string]string{
	"atomic": "sync/atomic", "context": "context", "errors": "errors", "exec": "os/exec",
	"http": "net/http", "io": "io", "net": "net", "os": "os", "sql": "database/sql",
	"sync": "sync", "syscall": "syscall", "tls": "crypto/tls",
}

// elsewhere are names of packages of Go's library that are called as one of ours is.
var elsewhere = map[string]bool{"runtime.Goexit": true, "runtime.LockOSThread": true}

var (
	code     = regexp.MustCompile("`[^`]+`")
	goName   = regexp.MustCompile(`^([a-z]+)((?:\.[A-Z]\w*)+)$`)
	testFile = regexp.MustCompile("`([a-z/_]+_test\\.go)`")
	testFunc = regexp.MustCompile("`((?:Test|Example)\\w+)`")
)

// known has what was looked up so far.
var known = make(names)

// What the pages say in code, as package.Name, package.Type.Method or package.Type.Field, exists.
func TestNamesExist(t *testing.T) {
	eachLine(t, pages(t, "*"), func(where, line string) {
		for _, name := range namesIn(line) {
			exists, err := known.has(t, name)
			if err == nil && !exists {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
	})
}

// Every row of the guide's tables names what is there in Go, of a package that is checked, or says
// that there is nothing.
func TestRowsOfThePortingGuideNameTheirCounterpart(t *testing.T) {
	rows := 0
	var columns []int // those of Go in the table that the line belongs to
	eachLine(t, pages(t, "porting*"), func(where, line string) {
		if !strings.HasPrefix(line, "|") {
			columns = nil
			return
		}
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|")
		if strings.TrimSpace(cells[1]) == "Swoole" {
			for i, cell := range cells {
				if cell = strings.TrimSpace(cell); cell == "Go" || strings.HasPrefix(cell, "Go: ") {
					columns = append(columns, i)
				}
			}
			return
		}
		for _, column := range columns {
			if cell := strings.TrimSpace(cells[column]); !strings.HasPrefix(cell, "---") {
				rows++
				counterpart(t, where, cell)
			}
		}
	})
	if rows == 0 {
		t.Error("there are no rows")
	}
}

// counterpart checks the cell of a table.
func counterpart(t *testing.T, where, cell string) {
	found := namesIn(cell)
	if len(found) == 0 && cell != "none" {
		t.Errorf("%s: neither a name nor none: %s", where, cell)
	}
	for _, name := range found {
		if _, err := known.has(t, name); err != nil {
			t.Errorf("%s: %s: %v", where, name, err)
		}
	}
}

// A row that refers to a test file is pinned by it, and by the tests that the row names.
func TestPinnedRowsAreTested(t *testing.T) {
	pinned := 0
	eachLine(t, pages(t, "porting*"), func(where, line string) {
		var text strings.Builder
		for _, file := range testFile.FindAllStringSubmatch(line, -1) {
			source, err := os.ReadFile(filepath.Join("..", file[1]))
			if err != nil {
				t.Errorf("%s: %v", where, err)
			}
			text.Write(source)
			pinned++
		}
		if text.Len() == 0 {
			return
		}
		for _, test := range testFunc.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(text.String(), "\nfunc "+test[1]+"(") {
				t.Errorf("%s: its files have no %s", where, test[1])
			}
		}
	})
	if pinned == 0 {
		t.Error("there are none")
	}
}

// pages returns the pages that the pattern matches, without their ".md", and those in folders that
// it matches.
func pages(t *testing.T, pattern string) []string {
	var found []string
	check(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		first, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		matches, err := filepath.Match(pattern, strings.TrimSuffix(first, ".md"))
		if matches {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// eachLine calls fn for each line outside blocks of code.
func eachLine(t *testing.T, files []string, fn func(where, line string)) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(t, err)
		block := false
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				block = !block
			} else if !block {
				fn(fmt.Sprintf("%s:%d", file, i+1), line)
			}
		}
	}
}

// namesIn returns the text's pieces of code that look like a name of a package.
func namesIn(text string) []string {
	var found []string
	for _, piece := range code.FindAllString(text, -1) {
		if piece = strings.Trim(piece, "`"); goName.MatchString(piece) {
			found = append(found, piece)
		}
	}
	return found
}

// names has, by package, "Name" and "Type.Member" of what is exported; nil if it isn't ours.
type names map[string]map[string]bool

// has reports whether a name exists. The error says that its package is none that is known.
func (n names) has(t *testing.T, name string) (bool, error) {
	parts := goName.FindStringSubmatch(name)
	pkg, member := parts[1], parts[2][1:]
	dir := filepath.Join("..", ours[pkg])
	if ours[pkg] == "" {
		dir = filepath.Join(build.Default.GOROOT, "src", standard[pkg])
	}
	if cmp.Or(ours[pkg], standard[pkg]) == "" {
		return false, fmt.Errorf("%s is no package that is known here", pkg)
	}
	if n[pkg] == nil {
		n[pkg] = exported(t, dir)
	}
	return n[pkg][member] || elsewhere[name], nil
}

// exported returns what the package in a folder exports.
func exported(t *testing.T, dir string) map[string]bool {
	files := token.NewFileSet()
	sources, err := build.ImportDir(dir, 0)
	check(t, err)
	var parsed []*ast.File
	for _, source := range sources.GoFiles {
		file, err := parser.ParseFile(files, filepath.Join(dir, source), nil, parser.SkipObjectResolution)
		check(t, err)
		parsed = append(parsed, file)
	}
	pkg, err := doc.NewFromFiles(files, parsed, dir)
	check(t, err)

	all := make(map[string]bool)
	values := func(groups ...[]*doc.Value) {
		for _, group := range groups {
			for _, value := range group {
				for _, name := range value.Names {
					all[name] = true
				}
			}
		}
	}
	functions := func(prefix string, fns []*doc.Func) {
		for _, fn := range fns {
			all[prefix+fn.Name] = true
		}
	}
	values(pkg.Consts, pkg.Vars)
	functions("", pkg.Funcs)
	embedded := make(map[string][]string)
	for _, typ := range pkg.Types {
		all[typ.Name] = true
		values(typ.Consts, typ.Vars)
		functions("", typ.Funcs)
		functions(typ.Name+".", typ.Methods)
		members, embeds := membersOf(typ)
		embedded[typ.Name] = embeds
		for _, member := range members {
			all[typ.Name+"."+member] = true
		}
	}
	for range 3 { // what is promoted through as many embedded types
		promote(all, embedded)
	}
	return all
}

// membersOf returns the fields of a struct, or the methods of an interface, and what is embedded.
func membersOf(typ *doc.Type) (members, embeds []string) {
	for _, spec := range typ.Decl.Specs {
		var fields *ast.FieldList
		switch t := spec.(*ast.TypeSpec).Type.(type) {
		case *ast.StructType:
			fields = t.Fields
		case *ast.InterfaceType:
			fields = t.Methods
		default:
			continue
		}
		for _, field := range fields.List {
			for _, name := range field.Names {
				members = append(members, name.Name)
			}
			of := field.Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if name, ok := of.(*ast.Ident); ok && len(field.Names) == 0 {
				members, embeds = append(members, name.Name), append(embeds, name.Name)
			}
		}
	}
	return members, embeds
}

// promote adds to each type the members of the types that are embedded in it.
func promote(all map[string]bool, embedded map[string][]string) {
	var more []string
	for typ, embeds := range embedded {
		for _, embed := range embeds {
			for name := range all {
				if member, ok := strings.CutPrefix(name, embed+"."); ok {
					more = append(more, typ+"."+member)
				}
			}
		}
	}
	for _, name := range more {
		all[name] = true
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
