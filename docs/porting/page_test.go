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

// snippet is a block of Go of a page, and the file that the last link before it leads to.
type snippet struct{ file, code string }

var links = regexp.MustCompile(`\]\(([^)]*\.go)\)`)

func snippets(t *testing.T) []snippet {
	t.Helper()
	const folder = "side-by-side"
	pages, err := filepath.Glob(filepath.Join(folder, "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages:", err)
	}
	var found []snippet
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var file string
		parts := strings.Split(string(text), "\n```go\n")
		for i, part := range parts[1:] {
			code, _, closed := strings.Cut(part, "\n```\n")
			if linked := links.FindAllStringSubmatch(parts[i], -1); len(linked) > 0 {
				file = filepath.Join(folder, linked[len(linked)-1][1])
			}
			if !closed || file == "" {
				t.Fatalf("a block without an end, or without a link to its file:\n%.80s", part)
			}
			found = append(found, snippet{file, code})
		}
	}
	return found
}

// TestSnippetsAreSource: what the pages show is the source of a file, and each file with an Example
// is shown whole, from behind its imports.
func TestSnippetsAreSource(t *testing.T) {
	found := snippets(t)
	for _, s := range found {
		source, err := os.ReadFile(s.file)
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(source), "\n"+s.code+"\n") {
			t.Errorf("a page shows what is not in %s:\n%s", s.file, s.code)
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
			t.Errorf("no page shows %s as it is", file)
		}
	}
}

// TestEachTopicIsWhole: a topic has the PHP program, what that prints, the Go one, and what differs.
func TestEachTopicIsWhole(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("side-by-side", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	topics := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range strings.Split(string(text), "\n## ")[1:] {
			topics++
			title, rest, _ := strings.Cut(topic, "\n")
			for _, part := range []string{"```php", "```text", "```go", "**Where they differ**"} {
				found := false
				if _, rest, found = strings.Cut(rest, "\n"+part+"\n"); !found {
					t.Errorf("%s: %q lacks %q, or has it too early", page, title, part)
					break
				}
			}
		}
	}
	if topics < 18 {
		t.Errorf("there are %d topics", topics)
	}
}
