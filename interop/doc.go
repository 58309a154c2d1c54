// Package interop tests Whorl against real servers, which the tests start and end themselves:
//
//	apt-get install postfix sasl2-bin libsasl2-modules openssl haproxy nginx libnginx-mod-stream
//	go test -tags interop ./interop
//
// Postfix wants root. Where a server is missing the tests fail: whoever sets the tag wants to know.
package interop
