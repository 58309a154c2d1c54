//go:build linux

// Package porting_test has the Go side of the pages in side-by-side: each snippet of them is an
// Example that runs here.
package porting_test

import (
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
