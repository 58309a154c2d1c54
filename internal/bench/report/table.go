package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows of cells, of which the first row is the heading. Names are on the left, figures,
// which are all columns after the first, on the right, unless Markdown is told otherwise.
type Table [][]string

// widths returns how wide the columns are.
func (t Table) widths() (all []int) {
	for _, row := range t {
		for i, cell := range row {
			if i == len(all) {
				all = append(all, 0)
			}
			all[i] = max(all[i], utf8.RuneCountInString(cell))
		}
	}
	return all
}

// WriteText writes the table with its columns below each other.
func (t Table) WriteText(w io.Writer) error {
	return t.write(w, "  ", func(column int, _ string) bool { return column == 0 })
}

// WriteFacts writes names and what is to be said of each, without a heading.
func (t Table) WriteFacts(w io.Writer) error {
	return t.write(w, "", func(int, string) bool { return true })
}

func (t Table) write(w io.Writer, indent string, left func(column int, cell string) bool) error {
	widths := t.widths()
	var b strings.Builder
	for _, row := range t {
		line := indent
		for i, cell := range row {
			if i > 0 {
				line += "  "
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if left(i, cell) {
				line += cell + space
			} else {
				line += space + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes the table for Markdown. Columns that are named in left have no figures.
func (t Table) WriteMarkdown(w io.Writer, left ...int) error {
	if len(t) == 0 {
		return nil
	}
	rule := make([]string, len(t[0]))
	for i := range rule {
		rule[i] = "--:"
	}
	for _, i := range left {
		rule[i] = "---"
	}
	for i, row := range t {
		if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | ")); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "|%s|\n", strings.Join(rule, "|")); err != nil {
			return err
		}
	}
	return nil
}
