package report

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Machine is where a run was made, and with what.
type Machine struct {
	CPU        string `json:"cpu"`                    // the model
	Processors int    `json:"processors"`             // that the program may use
	Memory     int64  `json:"memory_bytes,omitempty"` // in bytes
	System     string `json:"system"`                 // the kernel and its architecture
	Go         string `json:"go"`                     // the version of Go
	Whorl      string `json:"whorl"`                  // the version of Whorl, see Version
}

// ThisMachine describes the machine. It reads a few small files in /proc; what isn't there stays
// empty.
func ThisMachine() Machine {
	m := Machine{
		CPU:        field("/proc/cpuinfo", "model name"),
		Processors: runtime.GOMAXPROCS(0),
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		Go:         runtime.Version(),
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System = "Linux " + strings.TrimSpace(string(release)) + ", " + runtime.GOARCH
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"),
		10, 64); err == nil {
		m.Memory = kib << 10
	}
	m.Whorl = Version()
	return m
}

// Version is Whorl's in this program.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return version(info)
	}
	return "unknown"
}

// version is the module's version, or for one that was built from a checkout its commit.
func version(info *debug.BuildInfo) string {
	v, dirty := info.Main.Version, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && (v == "" || v == "(devel)"):
			v = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true" && !strings.Contains(v, "dirty"):
			dirty = "+dirty"
		}
	}
	return v + dirty
}

// field returns the value of the first line "name: value" of a file.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// String is a line for reports.
func (m Machine) String() string {
	parts := []string{strconv.Itoa(m.Processors) + " processors"}
	if m.CPU != "" {
		parts = append([]string{m.CPU}, parts...)
	}
	return strings.Join(append(parts, m.System, m.Go, "whorl "+m.Whorl), ", ")
}
