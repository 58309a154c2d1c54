// Package goroutine tells goroutines apart, cheaply.
//
// Whorl's calls work from a coroutine and from a plain goroutine alike; to know which of the two is
// calling they compare the identity of the goroutine they run on with that of the coroutine that
// their loop is running. The identity is the address of the runtime's g, which a goroutine keeps
// for life. It may be used again for another goroutine afterwards, so an identity says something
// only about goroutines that are known to be alive.
package goroutine

// ID identifies a live goroutine. The zero ID is no goroutine.
type ID uintptr
