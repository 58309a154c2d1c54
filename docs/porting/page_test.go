//go:build linux

package porting_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippet is a block of Go of the page, and the file that the last link before it leads to.
type snippet struct{ file, code string }

var links = regexp.MustCompile(`\]\(([^)]*\.go)\)`)

func snippets(t *testing.T) []snippet {
	t.Helper()
	page, err := os.ReadFile("side-by-side.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []snippet
	var file string
	parts := strings.Split(string(page), "\n```go\n")
	for i, part := range parts[1:] {
		code, _, closed := strings.Cut(part, "\n```\n")
		if linked := links.FindAllStringSubmatch(parts[i], -1); len(linked) > 0 {
			file = linked[len(linked)-1][1]
		}
		if !closed || file == "" {
			t.Fatalf("a block without an end, or without a link to its file:\n%.80s", part)
		}
		found = append(found, snippet{file, code})
	}
	return found
}

// TestSnippetsAreSource: what the page shows is the source of a file, and each file with an Example
// is shown whole, from behind its imports.
func TestSnippetsAreSource(t *testing.T) {
	found := snippets(t)
	for _, s := range found {
		source, err := os.ReadFile(s.file)
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(source), "\n"+s.code+"\n") {
			t.Errorf("the page shows what is not in %s:\n%s", s.file, s.code)
		}
	}
	files, err := filepath.Glob("example_*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples:", err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, code, _ := strings.Cut(string(source), "\n)\n\n")
		if !slices.Contains(found, snippet{file, strings.TrimSuffix(code, "\n")}) {
			t.Errorf("the page doesn't show %s as it is", file)
		}
	}
}
