package explain

import (
	"cmp"
	"crypto/tls"
	"slices"
	"strings"

	"github.com/whorl-go/whorl/internal/setting"
)

// versionRange returns the lowest and the highest version of a configuration.
func versionRange(config *tls.Config) (lowest, highest uint16) {
	return cmp.Or(config.MinVersion, tls.VersionTLS12), cmp.Or(config.MaxVersion, tls.VersionTLS13)
}

// oneOf returns the versions of a range, "TLS 1.2 or 1.3" for instance.
func oneOf(lowest, highest uint16) string {
	first, last := tls.VersionName(lowest), tls.VersionName(highest)
	number := strings.TrimPrefix(last, "TLS ")
	switch {
	case lowest >= highest:
		return first
	case highest == lowest+1:
		return first + " or " + number
	}
	return first + " to " + number
}

const unsafeBelow = "; to go below TLS 1.2 is possible by " + setting.MinVersion + ", and unsafe"

// versionAdvice says what makes a common version, of what was offered to a server that took none.
func (x *explainer) versionAdvice() string {
	lowest, highest := versionRange(x.config)
	switch {
	case highest < tls.VersionTLS12:
		return "let this side offer TLS 1.2 and 1.3 by " + setting.MaxVersion
	case lowest > tls.VersionTLS12:
		return "have the server take TLS 1.3, or let this side offer TLS 1.2 as well by " +
			setting.MinVersion
	case highest < tls.VersionTLS13:
		return "let this side offer TLS 1.3 as well by " + setting.MaxVersion +
			", or have the server take TLS 1.2"
	case lowest < tls.VersionTLS12:
		return "have the server take " + oneOf(tls.VersionTLS12, highest)
	}
	return "have the server take " + oneOf(lowest, highest) + unsafeBelow
}

// clientVersionAdvice says what makes a common version, of what a server takes and a client has
// offered.
func clientVersionAdvice(config *tls.Config, offered []uint16) string {
	lowest, highest := versionRange(config)
	use := "have the client use " + oneOf(lowest, highest)
	if len(offered) == 0 {
		return use
	}
	switch oldest, newest := slices.Min(offered), slices.Max(offered); {
	case oldest > highest:
		return "let this server take " + tls.VersionName(oldest) + " by " + setting.MaxVersion +
			", or " + use
	case newest < lowest && newest >= tls.VersionTLS12:
		return use + ", or let this server take " + tls.VersionName(newest) + " by " +
			setting.MinVersion
	case newest < tls.VersionTLS12 && lowest >= tls.VersionTLS12:
		return use + unsafeBelow
	}
	return use
}
