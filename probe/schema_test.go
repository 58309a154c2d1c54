//go:build linux

package probe_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/whorl-go/whorl/probe"
)

// schema is the one that is published.
var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	return compiler.Compile("../docs/probe.schema.json")
})

// checkSchema checks that a report, as JSON, follows the schema.
func checkSchema(t *testing.T, report *probe.Report) {
	t.Helper()
	schema, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err == nil {
		err = schema.Validate(instance)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, data)
	}
}

func TestSchemaRefusesWhatIsNoReport(t *testing.T) {
	t.Parallel()
	schema, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"schema":"` + probe.Schema + `","began":"2026-01-01T00:00:00Z","seconds":1,` +
		`"reachable":true,"layers":[],"files":{"cert":"x"},`
	for _, text := range []string{
		`{}`,
		head + `"findings":[],"extra":1}`,
		head + `"findings":[{"id":"lower","severity":"error","layer":"x","evidence":"","mend":""}]}`,
	} {
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(instance) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// The page has each id, and no others, in the order of the code.
func TestPageListsAllIDs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Z0-9.-]+)` \\|").FindAllStringSubmatch(
		string(page), -1) {
		listed[match[1]]++
	}
	for _, id := range probe.IDs() {
		if listed[string(id)] != 1 {
			t.Errorf("%s is listed %d times in docs/probe.md", id, listed[string(id)])
		}
		delete(listed, string(id))
	}
	for id := range listed {
		t.Errorf("docs/probe.md lists %s, which there is not", id)
	}
}
