package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	swooleName = regexp.MustCompile(`\w+\*?`)
	fromTo     = regexp.MustCompile(`(\d+) to (\d+)`)
)

// Each name of Swoole has a row under the heading where a reader looks for it. The list is in
// porting/testdata.
func TestEachNameOfSwooleHasARow(t *testing.T) {
	rows := rowsByHeading(t)
	list, err := os.ReadFile(filepath.Join("porting", "testdata", "swoole.txt"))
	check(t, err)
	sections := strings.Split(string(list), "\n# ")
	for _, section := range sections[1:] {
		heading, names, _ := strings.Cut(section, "\n")
		if rows[heading] == nil {
			t.Errorf("there is no table under %q", heading)
			continue
		}
		for _, name := range strings.Fields(names) {
			if !rows[heading][name] && !matched(rows[heading], name) {
				t.Errorf("no row under %q has %s", heading, name)
			}
		}
	}
	if len(sections) < 20 {
		t.Errorf("the list has %d headings", len(sections)-1)
	}
}

// matched reports whether a row has a pattern for the name, such as log_*.
func matched(names map[string]bool, name string) bool {
	for pattern := range names {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// rowsByHeading returns what the tables of the guide have in their first columns. Numbers of errors
// that have one here are on a page of their own.
func rowsByHeading(t *testing.T) map[string]map[string]bool {
	const errorCodes = "Error codes"
	rows := make(map[string]map[string]bool)
	heading := ""
	add := func(cell string) {
		if rows[heading] == nil {
			rows[heading] = make(map[string]bool)
		}
		for _, name := range swooleName.FindAllString(cell, -1) {
			rows[heading][name] = true
		}
		for _, bounds := range fromTo.FindAllStringSubmatch(cell, -1) {
			first, _ := strconv.Atoi(bounds[1])
			last, _ := strconv.Atoi(bounds[2])
			for n := first; n <= last; n++ {
				rows[heading][fmt.Sprint(n)] = true
			}
		}
	}
	eachLine(t, append(pages(t, "porting*"), "codes.md"), func(where, line string) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.ReplaceAll(title, "`", "")
		}
		if strings.HasPrefix(where, "codes.md") {
			heading = errorCodes
		}
		if cells := strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|"); len(cells) > 2 {
			add(cells[1])
		}
	})
	return rows
}
