package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/whorl-go/whorl/internal/bench"
	"github.com/whorl-go/whorl/internal/bench/message"
)

// defaultDuration is how long a run takes that was told neither a time nor a number.
const defaultDuration = 10 * time.Second

func benchCommand(args []string) *cobra.Command {
	group := &cobra.Command{
		Use: "bench",
		Short: "load generator for TLS and STARTTLS servers: handshakes, throughput, round " +
			"trips, held connections; WebSocket",
		Long: `Measures a server: TLS handshakes, also after STARTTLS, throughput, round trips,
connections that are held; and WebSocket servers.
"whorl bench serve" is the other side, to measure against.

Without --rate, each connection begins an operation when its last one has ended (closed loop). With
--rate the operations begin on schedule whatever the server does, and latencies count from that
schedule (open loop).`,
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is no mode of bench", args[0])
			}
			return command.Help()
		},
	}
	for _, m := range []mode{
		{
			bench.Handshake, "TLS handshakes per second",
			"Makes connections with a TLS handshake, full or resumed, direct or after STARTTLS, " +
				"and closes them.",
			(*generator).handshakeFlags,
		},
		{
			bench.Throughput, "bytes per second, in one direction or both",
			"Sends messages, receives them, or both at a time, as fast as it goes or at a rate. " +
				"The peer is a sink, a source or an echo.",
			(*generator).throughputFlags,
		},
		{
			bench.PingPong, "round trips per second",
			"Sends a message and waits for its echo, again and again.",
			(*generator).messageFlags,
		},
		{
			bench.Connections, "opens connections, holds them, and tells what each costs in memory",
			"Opens -n connections, -c at a time, and holds them for -d: idle, or with a " +
				"heartbeat, which the peer has to send back.\n" +
				"Connections to a loopback address come from as many addresses of 127.0.0.0/8 as " +
				"it takes.",
			(*generator).connectionsFlags,
		},
	} {
		group.AddCommand(m.command(string(m.mode)+" HOST:PORT", args))
	}
	group.AddCommand(webSocketCommand(args), serveCommand())
	return group
}

// mode is a command that makes load.
type mode struct {
	mode        bench.Mode
	short, long string
	flags       func(*generator, *cobra.Command)
}

func (m mode) command(use string, args []string) *cobra.Command {
	g := &generator{options: bench.Options{Mode: m.mode, Command: commandLine(args)}}
	command := &cobra.Command{
		Use: use, Short: m.short, Long: m.long, Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return g.run(command, args[0])
		},
	}
	command.Flags().SortFlags = false
	g.loadFlags(command)
	m.flags(g, command)
	if g.webSocket() {
		g.security.verifyFlags(command)
	} else {
		g.security.flags(command, m.mode == bench.Handshake)
	}
	g.outputFlags(command)
	return command
}

// generator is one of the modes that make load, with its flags.
type generator struct {
	options  bench.Options
	security security
	framing  string

	firstByte string
	header    []string // of the WebSocket modes
	outputs   outputs
	quiet     bool
}

func (g *generator) loadFlags(command *cobra.Command) {
	f, o := command.Flags(), &g.options
	connections := 50
	if o.Mode == bench.Throughput {
		connections = 1
	}
	f.IntVarP(&o.Connections, "connections", "c", connections, "connections at a time")
	f.Int64VarP(&o.Operations, "number", "n", 0, "end after so many operations (default no limit)")
	f.DurationVarP(&o.Duration, "duration", "d", 0,
		"end after so long (default 10s, or no limit with -n)")
	f.Float64Var(&o.Rate, "rate", 0,
		"begin so many operations per second, whatever the server does (open loop; default "+
			"closed loop)")
	f.DurationVar(&o.Warmup, "warmup", 0, "run so long before anything is measured")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second,
		"of each phase: connect, banner, dialogue, handshake, answer")
	f.IntVar(&o.Loops, "loops", 0, "event loops (default one for each processor)")
	f.StringVar(&o.Source, "source", bench.AutoSource,
		`addresses to connect from: ADDRESS, FIRST-LAST, PREFIX/BITS, `+
			`"" for the kernel's choice; auto: 127.0.0.0/8 where it is needed`)
	f.BoolVar(&o.ResolveEach, "resolve-each", false,
		"look the name up for each connection (default once)")
}

func (g *generator) handshakeFlags(command *cobra.Command) {
	f := command.Flags()
	f.Float64Var(&g.options.Resume, "resume", 0,
		"share of the handshakes that resume a session, 0 to 1")
	f.StringVar(&g.firstByte, "first-byte", "",
		`go on to the server's first byte over TLS, and send TEXT before, `+
			`with \r, \n, \t and \xNN; "auto": the first command of the --starttls `+
			`protocol; "wait": nothing, the server speaks first`)
}

// opening finds out what --first-byte has a client send.
func (g *generator) opening() ([]byte, error) {
	switch g.firstByte {
	case "":
		return nil, errors.New(`--first-byte "": want what to send, auto, or wait`)
	case "wait":
		return nil, nil
	case "auto":
		if g.options.StartTLS == nil {
			return nil,
				errors.New("--first-byte auto: without --starttls no protocol is known; say what " +
					"to send, or wait")
		}
		return g.options.StartTLS.Hello(g.options.Params()), nil
	}
	text, err := unescape(g.firstByte)
	if err != nil {
		return nil, fmt.Errorf("--first-byte %q: %w", g.firstByte, err)
	}
	return text, nil
}

// unescape reads the escapes of Go's strings; quotes stand for themselves.
func unescape(text string) ([]byte, error) {
	var out []byte
	for len(text) > 0 {
		c, multibyte, rest, err := strconv.UnquoteChar(text, 0)
		if err != nil {
			return nil, errors.New("a backslash begins an escape such as \\r, \\n, \\x00 or \\\\")
		}
		if c < utf8.RuneSelf || !multibyte {
			out = append(out, byte(c))
		} else {
			out = utf8.AppendRune(out, c)
		}
		text = rest
	}
	return out, nil
}

func (g *generator) messageFlags(command *cobra.Command) {
	f := command.Flags()
	size := 64
	if g.options.Mode == bench.Throughput {
		size = 16 << 10
	}
	f.IntVar(&g.options.Size, "size", size,
		"of a message, in bytes, with all that belongs to the framing")
	f.StringVar(&g.framing, "framing", string(message.None),
		"of messages: "+strings.Join(message.Framings, ", "))
}

func (g *generator) throughputFlags(command *cobra.Command) {
	g.messageFlags(command)
	command.Flags().StringVar((*string)(&g.options.Direction), "direction", string(bench.Send),
		"send (to a sink), receive (from a source), both (with an echo)")
}

func (g *generator) connectionsFlags(command *cobra.Command) {
	g.messageFlags(command)
	f := command.Flags()
	g.heartbeatFlags(command,
		"send a message on each connection so often and wait for its echo (default none: idle)")
	f.StringVar((*string)(&g.options.Hold), "hold", string(bench.HoldSocket),
		"what holds a connection: socket, or coroutine, which waits on it")
}

func (g *generator) heartbeatFlags(command *cobra.Command, usage string) {
	f := command.Flags()
	f.DurationVar(&g.options.Heartbeat, "heartbeat", 0, usage)
	f.Lookup("number").Usage = "connections to hold (default: as many as -c)"
	f.Lookup("connections").Usage = "connections that are opened at a time"
	f.Lookup("duration").Usage = "hold them so long (default 10s)"
}

func (g *generator) outputFlags(command *cobra.Command) {
	f := command.Flags()
	f.StringVar(&g.outputs.json, "json", "",
		`write the result as JSON to FILE ("-": standard output)`)
	f.StringVar(&g.outputs.csv, "csv", "", "write the time series as CSV to FILE")
	f.StringVar(&g.outputs.hgrm, "hgrm", "",
		"write the percentiles of the latency to FILE, as HdrHistogram's plotting tools read "+
			"them, in milliseconds")
	f.StringVar(&g.outputs.plot, "plot", "",
		"draw latency distribution and time series to FILE.svg or FILE.html")
	f.BoolVarP(&g.quiet, "quiet", "q", false,
		"no progress bar (there is none anyway if standard error is no terminal)")
}

// complete fills in what depends on other flags, and checks them all.
func (g *generator) complete(command *cobra.Command, target string) error {
	o, given := &g.options, command.Flags().Changed
	o.Target = target
	var err error
	if g.holds() {
		if !given("number") {
			o.Operations = int64(o.Connections)
		}
		if !given("duration") {
			o.Duration = defaultDuration
		}
	} else if !given("number") && !given("duration") {
		o.Duration = defaultDuration
	}
	if given("number") && o.Operations < 1 || given("duration") && o.Duration <= 0 &&
		!g.holds() {
		return errors.New("-n and -d want more than 0")
	}
	if o.Framing, err = message.ParseFraming(or(g.framing, string(message.None))); err != nil {
		return err
	}
	if err := g.outputs.check(); err != nil {
		return err
	}
	always := o.Mode == bench.Handshake
	if g.webSocket() {
		if always, err = g.completeWebSocket(target); err != nil {
			return err
		}
	}
	if o.TLS, o.StartTLS, err = g.security.client(always); err != nil {
		return err
	}
	if o.FirstByte = given("first-byte"); o.FirstByte {
		if o.Opening, err = g.opening(); err != nil {
			return err
		}
	}
	return o.Check()
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func (g *generator) run(command *cobra.Command, target string) error {
	if err := g.complete(command, target); err != nil {
		return err
	}
	if err := g.outputs.open(command.OutOrStdout()); err != nil {
		return failed(err)
	}
	defer g.outputs.close()
	var bar *progress
	if !g.quiet {
		bar = newProgress(command.ErrOrStderr())
	}
	if bar != nil {
		g.options.Progress = bar.show
	}
	result, err := bench.Run(command.Context(), g.options)
	bar.finish()
	if errors.Is(err, context.Canceled) && command.Context().Err() != nil {
		err = errors.New("interrupted before anything was measured")
	}
	if err != nil {
		return failed(benchRemedies.add(err))
	}
	for class, example := range result.Examples {
		result.Examples[class] = benchRemedies.flags.said(example)
	}
	if err := g.outputs.write(result, command.OutOrStdout(), command.ErrOrStderr()); err != nil {
		return failed(err)
	}
	switch {
	case result.Operations == 0:
		return failed(errors.New("no operation has succeeded"))
	case g.holds() && result.Held < g.options.Operations &&
		!result.Interrupted:
		return failed(fmt.Errorf("%d of %d connections were held to the end", result.Held,
			g.options.Operations))
	}
	return nil
}

var benchRemedies = remedies{
	trust: "--ca FILE, or --insecure to verify nothing", name: "--server-name NAME",
	upgrade: "--starttls PROTOCOL", certificate: "--cert FILE --key FILE", flags: benchFlags,
}

// plainCharacters are those that a shell takes for themselves.
const plainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" +
	"-_=+:,./@%[]"

// commandLine writes the arguments as a shell would read them.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		if i == 0 {
			arg = filepath.Base(arg)
		}
		words[i] = arg
		if arg == "" || strings.ContainsFunc(arg, func(c rune) bool {
			return !strings.ContainsRune(plainCharacters, c)
		}) {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
