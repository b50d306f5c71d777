// Command bootstrap is the executable that Function Compute's go1 runtime starts.
// Build it with
//
//	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -o bootstrap ./bootstrap
//
// Started anywhere else it says what it is and exits with status 2; with -h it lists
// its settings.
package main

import (
	"errors"
	"fmt"
	"os"

	"increment-backup-download/function"
)

func main() {
	switch {
	case len(os.Args) == 2 && (os.Args[1] == "-h" || os.Args[1] == "--help"):
		_, _ = fmt.Fprintln(os.Stdout, function.Usage)
		return
	case len(os.Args) > 1:
		fmt.Fprintln(os.Stderr, "bootstrap takes no arguments but -h")
		os.Exit(2)
	}
	err := function.Run(os.Getenv, os.Stdout)
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, function.ErrOutsideFC) {
		fmt.Fprintf(os.Stderr, "\n%s\n", function.Usage)
		os.Exit(2)
	}
	os.Exit(1)
}
