//go:build linux

package main

import (
	"runtime/debug"
)

// About tells what a name stands for.
type About struct {
	Name    string `json:"name"`              // as in results
	Version string `json:"version,omitempty"` // the module's
	Text    string `json:"text"`              // a line that explains it
}

// ourModule is Whorl's own module path.
const ourModule = "github.com/whorl-go/whorl"

// moduleVersions tells which version of each module is in this program. Whorl itself is the one
// that this program was built with, so its version is the revision of the source, where the build
// knows it.
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
			versions[ourModule] = "revision " + setting.Value[:min(12, len(setting.Value))] +
				versions[ourModule]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			versions[ourModule] += " with changes"
		}
	}
	return versions
}
