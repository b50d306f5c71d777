// Command bootstrap is the executable that Function Compute's go1 runtime starts.
// Build it with
//
//	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -o bootstrap ./bootstrap
//
// Started anywhere else it prints its usage and exits with status 2; with -h it lists
// its settings, and with -check the invalid ones.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"increment-backup-download/function"
)

func main() {
	start := function.Run
	switch arguments := strings.Join(os.Args[1:], " "); arguments {
	case "":
	case "-h", "--help":
		_, _ = fmt.Fprintln(os.Stdout, function.Usage)
		return
	case "-check", "--check":
		start = function.Check
	default:
		fmt.Fprintln(os.Stderr, "bootstrap takes -h, -check or no argument")
		os.Exit(2)
	}
	err := start(os.Environ(), os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, function.ErrOutsideFC) {
		fmt.Fprintf(os.Stderr, "\n%s\n", function.Usage)
		os.Exit(2)
	}
	os.Exit(1)
}
