// Package text is how the errors of tlsconfig and its parts print what others say of themselves.
//
// What a peer sends ends up in logs and on terminals, and every error is one line. So names out of
// certificates are quoted and cut, and error texts that may contain some are cut and cleaned.
package text
