// Package dropin tests that libraries which know nothing of Whorl run unchanged over its hooks:
// net/http, net/smtp, go-mail, database/sql with pgx and with go-sql-driver/mysql, go-redis and
// gRPC; each from coroutines and from plain goroutines, with TLS, with deadlines and cancellation,
// and with connections that are cut in the middle. docs/hooks.md says how to use each. The folder
// examples has a short program for each.
//
// It is a module of its own, so that Whorl's go.mod doesn't have to name them.
//
//	go test -race ./...
//
// needs nothing but Go. With the tag interop the databases and the mail server are real ones, which
// the tests start and end themselves:
//
//	apt-get install postgresql mariadb-server redis-server postfix wrk
//	go test -race -tags interop ./...
//	go test -tags interop -run Soak -soak 30m -timeout 1h .
//
// Where a server is missing these tests fail: whoever sets the tag wants to know. Postfix wants
// root.
package dropin
