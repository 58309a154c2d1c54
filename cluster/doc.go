// Package cluster is rooms over many nodes.
package cluster
