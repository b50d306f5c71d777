package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const usage = `Run the function on this machine, without a cloud account.

Without flags, a timer event lets the function discover the backup sets of a plan in
a stand-in of DBS; then eight sample events are delivered through the stand-ins of
MNS and Function Compute. Tables show what became of each set and event. The first
run compiles every dependency, which takes some minutes; later ones take seconds.

Usage:
  go run ./tests/local [flags]

Flags:
  -payload FILE  deliver this file as it is, like a console test; - is standard input
  -events N      deliver N generated events in batches of 100
  -discover      with -events: put N backup sets into DBS instead, and let a timer discover
                 them, with BACKUP_PLAN_IDS all
  -faults RATE   with -events: let this share (0 to 0.5) of the calls to DBS and MNS fail,
                 kill the process now and then, and make a third of the events repeated,
                 malformed or refused
  -seed N        with -faults: replay this seed (default: a new one)
  -break WHAT    break one thing, show what the operator sees, repair it after two
                 deliveries, and show the recovery. WHAT is one of
                   dbs-permission  the role may not create download tasks
                   mns-permission  the role may not send messages
                   queue           the result queue does not exist
                   throttle        DBS throttles every call
                   hang            DBS does not answer
                   poison          one message is not a backup event
                   stopped         the download task of a backup set stopped
  -log           show the function's log as it is written
  -v             show the messages in the result and dead-letter queues in full
  -json          print one JSON document instead of tables
  -keep          go on until interrupted: print how to reach the stand-ins, deliver what
                 other clients send to the source queue, fire the timer every ten
                 seconds, and print each outcome as it comes. With -json no samples are
                 delivered: the first line is {"mns":URL,"dbs":URL,"accessKeyId":…,…},
                 and each outcome is a line of its own.
  -h             print this

-keep serves any client of MNS queues, with the token or the key pair that it prints, and
these operations of DBS: CreateIncrementBackupSetDownload, DescribeIncrementBackupList,
DescribeBackupSetDownloadTaskList and DescribeBackupPlanList, signed the V3 way
(ACS3-HMAC-SHA256) or the older RPC way (HMAC-SHA1). A task finishes three seconds after it
was created, its link serves a file, and delays of messages pass 60 times as fast. -keep
does not serve MNS topics and subscriptions, the V4 signature of MNS, HTTPS, or any other
operation of DBS.

Exit status: 0 if every event ended as it should, or if the reader of the output has gone
away; 1 if not; 2 for a wrong flag.
`

type options struct {
	payload  string
	events   int
	discover bool
	faults   float64
	seed     uint64
	breaks   string
	log      bool
	verbose  bool
	json     bool
	keep     bool
}

func parse(arguments []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet("local", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&opts.payload, "payload", "", "")
	flags.IntVar(&opts.events, "events", 0, "")
	flags.BoolVar(&opts.discover, "discover", false, "")
	flags.Float64Var(&opts.faults, "faults", 0, "")
	flags.Uint64Var(&opts.seed, "seed", 0, "")
	flags.StringVar(&opts.breaks, "break", "", "")
	flags.BoolVar(&opts.log, "log", false, "")
	flags.BoolVar(&opts.verbose, "v", false, "")
	flags.BoolVar(&opts.json, "json", false, "")
	flags.BoolVar(&opts.keep, "keep", false, "")
	if err := flags.Parse(arguments); err != nil {
		return opts, err
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case given["events"] && (opts.events < 1 || opts.events > 1_000_000):
		return opts, fmt.Errorf("-events %d: give a number from 1 to 1000000", opts.events)
	case given["payload"] && opts.payload == "":
		return opts, errors.New("-payload: name a file, or - for standard input")
	case opts.keep && opts.json && (given["events"] || given["payload"]):
		return opts, errors.New("-keep -json delivers no samples: leave -events and -payload out")
	case given["events"] && given["payload"]:
		return opts, errors.New("give -events or -payload, not both")
	case given["faults"] && (opts.faults < 0 || opts.faults > 0.5):
		return opts, fmt.Errorf("-faults %v: give a share from 0 to 0.5", opts.faults)
	case given["faults"] && !given["events"]:
		return opts, errors.New("-faults needs -events")
	case opts.discover && !given["events"]:
		return opts, errors.New("-discover needs -events")
	case given["seed"] && !given["faults"]:
		return opts, errors.New("-seed needs -faults")
	case given["break"] && breakages()[opts.breaks] == nil:
		return opts, fmt.Errorf("-break %s: give one of %s", opts.breaks,
			strings.Join(slices.Sorted(maps.Keys(breakages())), ", "))
	case given["break"] && (given["events"] || given["payload"] || opts.keep || opts.json || opts.verbose):
		return opts, errors.New("-break takes no other flag but -log")
	}
	if !given["seed"] {
		opts.seed = uint64(time.Now().UnixNano())
	}
	return opts, nil
}
