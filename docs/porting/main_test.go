//go:build linux

// Package porting_test has the Go side of side-by-side.md: each snippet of the page is an Example
// that runs here.
package porting_test

import (
	"testing"

	"github.com/whorl-go/whorl/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
