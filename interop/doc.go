// Package interop tests Whorl against real servers, clients and a browser, which
// the tests start and end themselves:
//
//	npm install --prefix /tmp/peers ws@8.23.0 playwright-core@1.65.1 pusher-js@8.6.0 laravel-echo@2.5.0 pusher@5.3.4
//	NODE_PATH=/tmp/peers/node_modules go test -tags interop ./interop
//
// .ci/run installs the servers, Chromium and Node.js. Most servers want root. Where one is missing
// the tests fail: whoever sets the tag wants to know.
package interop
