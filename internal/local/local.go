// Package local is where the packages of the house keep what they know of one runtime. It lives in
// the Runtime and ends with it, and the program doesn't see it.
package local

// Key is the key of the context value, a *sync.Map, that a Runtime's Context has for them. Each
// package has a key of its own in the map, of a type that it doesn't export.
type Key struct{}
