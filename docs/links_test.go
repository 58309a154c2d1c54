package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// markdown returns all pages of the repository, by their path from its root.
func markdown(t *testing.T) (found []string) {
	root := os.DirFS("..")
	check(t, fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."),
			entry.IsDir() && entry.Name() == "node_modules":
			return fs.SkipDir
		case path.Ext(name) == ".md":
			found = append(found, name)
		}
		return nil
	}))
	return found
}

// linksOf returns where a page leads within the repository: to files, with "#heading" behind them.
func linksOf(t *testing.T, page string) (targets []string) {
	eachLine(t, []string{filepath.Join("..", page)}, func(_, line string) {
		for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			target := found[1]
			switch {
			case strings.Contains(target, "://"), strings.HasPrefix(target, "mailto:"):
			case strings.HasPrefix(target, "#"):
				targets = append(targets, page+target)
			default:
				file, heading, isHeading := strings.Cut(target, "#")
				file = path.Join(path.Dir(page), file)
				if isHeading {
					file += "#" + heading
				}
				targets = append(targets, file)
			}
		}
	})
	return targets
}

// There is no page that the index doesn't have.
func TestTheIndexHasAllPages(t *testing.T) {
	const index = "docs/README.md"
	linked := map[string]bool{index: true}
	for _, target := range linksOf(t, index) {
		linked[target] = true
	}
	for _, page := range markdown(t) {
		if !linked[page] {
			t.Errorf("%s has no link to %s", index, page)
		}
	}
	if start := linksOf(t, "README.md"); !strings.Contains(strings.Join(start, "\n"), index) {
		t.Errorf("README.md has no link to %s", index)
	}
}

// Each link within the repository leads to a file and, if it names one, to a heading of it.
func TestLinksLeadSomewhere(t *testing.T) {
	headings := make(map[string]map[string]bool)
	checked := 0
	for _, page := range markdown(t) {
		for _, target := range linksOf(t, page) {
			checked++
			file, heading, isHeading := strings.Cut(target, "#")
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if !isHeading || path.Ext(file) != ".md" {
				continue
			}
			if headings[file] == nil {
				headings[file] = headingsOf(t, file)
			}
			if !headings[file][heading] {
				t.Errorf("%s: %s has no heading #%s", page, file, heading)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links were found", checked)
	}
}

// headingsOf returns the headings of a page as GitHub writes them into links.
func headingsOf(t *testing.T, page string) map[string]bool {
	found := make(map[string]bool)
	eachLine(t, []string{filepath.Join("..", page)}, func(_, line string) {
		if !strings.HasPrefix(line, "#") {
			return
		}
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(strings.TrimLeft(line, "#")))] = true
	})
	return found
}
