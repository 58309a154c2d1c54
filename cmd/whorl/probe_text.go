package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/whorl-go/whorl/probe"
)

// coloured reports whether w is a terminal of somebody who wants colours (no-color.org).
func coloured(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
}

// columns is how wide what is written to w may be: as a terminal is, or else what is easy to read.
func columns(w io.Writer) int {
	const readable, narrowest = 100, 40
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			return max(width, narrowest)
		}
	}
	return readable
}

// reportText is a report for people, with tables so many columns wide.
func reportText(r *probe.Report, colour bool, width int) string {
	t := &reportWriter{colour: colour, width: width}
	t.head(r)
	for _, layer := range r.Layers {
		mark := t.paint(green, "ok    ")
		if layer.Status == probe.Failed {
			mark = t.paint(red, "FAILED")
		}
		t.printf("%s  %-18s  %s (%v)\n", mark, layer.Name, layer.Detail,
			time.Duration(layer.Seconds*float64(time.Second)).Round(100*time.Microsecond))
	}
	t.findings(r)
	t.certificates(r)
	t.offers(r.Offers)
	return t.String()
}

// The colours of a terminal (ECMA-48, SGR).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

var probeRemedies = remedies{
	trust: "--ca FILE", name: "--server-name NAME", certificate: "--cert FILE --key FILE",
	passphrase: "--passphrase-file FILE", header: `--header "Name: value"`,
	flags: probeFlags,
}

// fileRemedies are those of whorl probe files.
var fileRemedies = remedies{
	trust: "--ca FILE", name: "--host NAME", passphrase: "--passphrase-file FILE",
	flags: files,
}

// remediesFor returns those of the command that a report is of.
func remediesFor(r *probe.Report) *remedies {
	if r.Files != nil {
		return &fileRemedies
	}
	return &probeRemedies
}

type reportWriter struct {
	strings.Builder
	colour bool
	width  int
}

func (t *reportWriter) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

func (t *reportWriter) paint(colour, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// list prints names behind a heading, on as many lines as they need.
func (t *reportWriter) list(heading string, names []string) {
	column := len(heading)
	t.WriteString(heading)
	for i, name := range names {
		if i < len(names)-1 {
			name += ","
		}
		switch {
		case i == 0:
		case column+1+len(name) > t.width:
			t.printf("\n%*s", len(heading), "")
			column = len(heading)
		default:
			name = " " + name
		}
		t.WriteString(name)
		column += len(name)
	}
	t.WriteString("\n")
}

func (t *reportWriter) head(r *probe.Report) {
	switch {
	case r.Target != nil:
		t.printf("%s\n\n", t.paint(bold, r.Target.String()))
	case r.Files != nil:
		t.printf("%s\n\n", t.paint(bold, r.Files.Cert))
	}
}

func (t *reportWriter) findings(r *probe.Report) {
	for _, severity := range []probe.Severity{probe.Error, probe.Warning, probe.Info} {
		colour := map[probe.Severity]string{
			probe.Error: red, probe.Warning: yellow, probe.Info: bold,
		}[severity]
		for _, finding := range r.Findings {
			if finding.Severity == severity {
				t.printf("\n%s %s\n  %s\n  Mend: %s\n",
					t.paint(colour, strings.ToUpper(string(severity))),
					t.paint(bold, string(finding.ID)), finding.Evidence, finding.Mend)
				right := "server is"
				if r.Files != nil {
					right = "files are"
				}
				if flags := remediesFor(r).against(finding.ID); flags != "" {
					t.printf("  If the %s right: %s\n", right, flags)
				}
			}
		}
	}
	if r.ExitStatus() == probe.ExitFine {
		t.printf("\n%s\n", t.paint(green, "Nothing is wrong."))
	}
}

func (t *reportWriter) certificates(r *probe.Report) {
	if len(r.Certificates) > 0 {
		t.printf("\n")
	}
	for i, cert := range r.Certificates {
		t.printf("%-19s %s, by %s\n", fmt.Sprintf("certificate %d", i+1), cert.Subject, cert.Issuer)
		if len(cert.Names) > 0 {
			t.printf("%-19s for %s\n", "", strings.Join(cert.Names[:min(5, len(cert.Names))], ", "))
		}
		t.printf("%-19s %s to %s; %s, signed by %s\n", "", cert.NotBefore.Format(time.DateOnly),
			cert.NotAfter.Format(time.DateOnly), cert.Key, cert.Signature)
	}
}

func (t *reportWriter) offers(o *probe.Offers) {
	if o == nil {
		return
	}
	t.printf("\n")
	for _, row := range []struct {
		name    string
		choices []probe.Choice
	}{{"versions", o.Versions}, {"suites", o.Suites}, {"groups", o.Groups}, {"ALPN", o.ALPN}} {
		for _, taken := range []probe.Taken{probe.Yes, probe.No, probe.Untested} {
			var names []string
			for _, choice := range row.choices {
				if choice.Taken == taken {
					names = append(names, choice.Name)
				}
			}
			if len(names) > 0 {
				t.list(fmt.Sprintf("%-9s %-9s ", row.name, taken), names)
			}
		}
	}
	if o.WithoutSNI != "" {
		t.printf("%-19s %s\n", "without SNI", o.WithoutSNI)
	}
	asked := "not asked for"
	if o.ClientCertificate.Asked {
		asked = map[probe.Taken]string{
			probe.Yes: "required", probe.No: "asked for, not required", probe.Untested: "asked for",
		}[o.ClientCertificate.Required]
	}
	t.printf("%-19s %s\n", "client certificate", asked)
	t.printf("%-19s %s\n", "resumption", o.Resumption)
	staple := "none"
	if o.Staple.Sent {
		staple = o.Staple.Status
	}
	t.printf("%-19s %s\n", "OCSP staple", staple)
}
