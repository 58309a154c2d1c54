//go:build race

package server_test

// raceDetector says that everything is slower, and larger.
const raceDetector = true
