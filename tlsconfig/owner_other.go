//go:build !unix

package tlsconfig

import "io/fs"

func owner(fs.FileInfo) string { return "" }
