// Cluster is a chat over several processes, and a page that shows who is where. In the module's
// folder, cluster/nats,
//
//	go run ./examples/cluster
//
// starts a NATS server and three nodes, has some people come and talk, kills a node, and ends:
//
//	alpha on http://127.0.0.1:40001/
//	beta on http://127.0.0.1:40002/
//	gamma on http://127.0.0.1:40003/
//	anna joins lobby at alpha
//	bert joins lobby at beta
//	cleo joins lobby at gamma
//	anna sees: anna at alpha, bert at beta, cleo at gamma
//	bert sees: anna at alpha, bert at beta, cleo at gamma
//	cleo sees: anna at alpha, bert at beta, cleo at gamma
//	anna says: hello
//	anna gets: anna at alpha, in lobby: hello
//	bert gets: anna at alpha, in lobby: hello
//	cleo gets: anna at alpha, in lobby: hello
//	bert says: @cleo only you
//	bert gets: bert at beta, to cleo: only you
//	cleo gets: bert at beta, to cleo: only you
//	gamma is killed
//	anna is told of gaps: messages in lobby, and to anna alone, may be lost
//	anna sees: anna at alpha, bert at beta
//	bert is told of gaps: messages in lobby, and to bert alone, may be lost
//	bert sees: anna at alpha, bert at beta
//	anna says: where is cleo?
//	anna gets: anna at alpha, in lobby: where is cleo?
//	bert gets: anna at alpha, in lobby: where is cleo?
//	gamma is there again
//	cleo joins lobby at gamma
//	cleo gets: anna at alpha, in lobby: where is cleo?
//	anna sees: anna at alpha, bert at beta, cleo at gamma
//	bert sees: anna at alpha, bert at beta, cleo at gamma
//	cleo sees: anna at alpha, bert at beta, cleo at gamma
//	cleo says: here I am
//	anna gets: cleo at gamma, in lobby: here I am
//	bert gets: cleo at gamma, in lobby: here I am
//	cleo gets: cleo at gamma, in lobby: here I am
//	All nodes are told to end
//	anna is told 1001
//	bert is told 1001
//	cleo is told 1001
//
// With -serve they stay until they are told to end (SIGINT or SIGTERM), and a node that is killed
// is started again; look at the pages with browsers:
//
//	go run ./examples/cluster -serve -history
//	go run ./examples/cluster -serve -nats nats://127.0.0.1:4222
//
// With -node there is one node, on a NATS of one's own:
//
//	go run ./examples/cluster -node alpha -listen 127.0.0.1:9601 -nats nats://127.0.0.1:4222
//
// node.go is a node and its server, chat.go what is said and who is where, three.go NATS and the
// processes, and demonstration.go the talk above.
package main

import (
	"bufio"
	"context"
	"flag"
	"io"
	"os"
	"strings"

	"github.com/whorl-go/whorl/internal/examples/serving"
	"github.com/whorl-go/whorl/internal/program"
)

func main() { program.Main("cluster", run) }

// run is a node with -node, three of them with -serve, or else a demonstration.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	listen := serving.ListenFlag(flags, 9601)
	serve := flags.Bool("serve", false, "serve with three nodes, each in a process of its own")
	name := flags.String("node", "", "be one node, with this `name`, which no other one has")
	urls := flags.String("nats", "", "`URLs` of a NATS, with commas between them; - reads them "+
		"from the first line of standard input, and ends with that")
	history := flags.Bool("history", false, "have JetStream keep what is said, for who comes back")
	if err := program.Parse(flags, args, stdout); err != nil {
		return err
	}
	switch {
	case *serve && *name != "":
		return program.Usage("-serve and -node exclude each other")
	case *name != "" && (*listen == "" || *urls == ""):
		return program.Usage("-node wants -listen and -nats")
	case *listen != "" && *name == "":
		return program.Usage("-listen is for -node")
	case *urls == "-" && *name == "":
		return program.Usage("-nats - is for -node")
	case !*serve && *name == "" && (*urls != "" || *history):
		return program.Usage("-nats and -history are for -serve and -node")
	case *serve:
		return serveThree(ctx, stdout, *urls, *history)
	case *name == "":
		return demonstrate(ctx, stdout)
	case *urls == "-":
		var err error
		if *urls, ctx, err = standardInput(ctx); err != nil {
			return err
		}
	}
	return serveNode(ctx, stdout, *name, *listen, *urls, *history)
}

// standardInput reads the first line of standard input. The context is done when that ends: it is
// the process's that has started this one, however that has ended. A secret that comes this way
// isn't in the list of processes.
func standardInput(ctx context.Context) (line string, _ context.Context, err error) {
	in := bufio.NewReader(os.Stdin)
	if line, err = in.ReadString('\n'); err != nil {
		return "", ctx, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, in)
		cancel()
	}()
	return strings.TrimSpace(line), ctx, nil
}
