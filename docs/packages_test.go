package docs_test

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var qualified = regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)`)

// What go doc says of a package begins with what it is for, and a program.
func TestPackagesBeginWithAProgram(t *testing.T) {
	for name, folder := range ours {
		pkg := documented(t, filepath.Join("..", folder))
		blocks := pkg.Parser().Parse(pkg.Doc).Content
		if len(blocks) < 2 {
			t.Errorf("package %s: the comment has no program", name)
			continue
		}
		if _, ok := blocks[0].(*comment.Paragraph); !ok || !strings.HasPrefix(pkg.Doc, "Package "+name) {
			t.Errorf("package %s: the comment doesn't begin with what it is for", name)
		}
		program, ok := blocks[1].(*comment.Code)
		if !ok { // behind a second paragraph
			program, ok = blocks[2].(*comment.Code)
		}
		if !ok {
			t.Errorf("package %s: the comment doesn't begin with a program", name)
			continue
		}
		if lines := strings.Count(program.Text, "\n"); lines < 4 || lines > 20 {
			t.Errorf("package %s: its program has %d lines", name, lines)
		}
		for _, used := range qualified.FindAllStringSubmatch(program.Text, -1) {
			if ours[used[1]] == "" || strings.Contains(program.Text, used[1]+", ") {
				continue // Go's own, or a variable of that name
			}
			if exists, err := known.has(t, used[0]); err != nil || !exists {
				t.Errorf("package %s: its program has %s, %v", name, used[0], err)
			}
		}
	}
}

// documented parses the package in a folder, with its comments.
func documented(t *testing.T, folder string) *doc.Package {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	check(t, err)
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.PackageClauseOnly|parser.ParseComments)
		check(t, err)
		parsed = append(parsed, file)
	}
	pkg, err := doc.NewFromFiles(set, parsed, folder)
	check(t, err)
	return pkg
}
