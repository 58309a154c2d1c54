//go:build linux

package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where the figures come from.
type Machine struct {
	Time   time.Time `json:"time"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
}

// About tells what a name stands for.
type About struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Text    string `json:"text"`
}

func thisMachine() Machine {
	m := Machine{Time: time.Now().UTC().Truncate(time.Second), CPU: "unknown", CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		m.Kernel = unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:])
	}
	return m
}

// machineCPU returns the time that all CPUs have been busy with anything, stolen time too, proc_stat(5). It counts in ticks of 10 ms.
func machineCPU() (busy time.Duration, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	const idle, iowait, guest = 4, 5, 9 // fields; guest time is in user time already
	for i, field := range strings.Fields(line) {
		if i == 0 || i == idle || i == iowait || i >= guest {
			continue
		}
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		busy += time.Duration(ticks) * time.Second / 100
	}
	return busy, nil
}

// ourModule is Whorl's own module path.
const ourModule = "github.com/whorl-go/whorl"

// moduleVersions tells which version of each module is in this program. Whorl itself is the one that this program was built with, so its version is the
// revision of the source, where the build knows it.
func moduleVersions() map[string]string {
	versions := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, module := range info.Deps {
		versions[module.Path] = module.Version
	}
	versions[ourModule] = ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			versions[ourModule] = "revision " + setting.Value[:min(12, len(setting.Value))] + versions[ourModule]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			versions[ourModule] += " with changes"
		}
	}
	return versions
}
