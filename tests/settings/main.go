// Command settings checks the settings of the function in s.yaml before it is deployed.
// It names every mistake, and warns of a name that looks like a misspelt setting:
//
//	go run ./tests/settings
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"increment-backup-download/tests/harness"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "settings takes no argument: it checks the settings in s.yaml")
		os.Exit(2)
	}
	deployment, err := harness.ReadDeployment()
	if err == nil {
		err = check(context.Background(), deployment, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check runs the executable's own check in the environment that a deployment gives the
// function. It prints every mistake, and returns an error if there is one.
func check(ctx context.Context, deployment *harness.Deployment, stdout io.Writer) error {
	var given struct {
		Resources struct {
			Function struct {
				Props struct {
					Region               string
					EnvironmentVariables map[string]yaml.Node `yaml:"environmentVariables"`
				}
			}
		}
	}
	if err := deployment.Decode(&given); err != nil {
		return err
	}
	props := given.Resources.Function.Props
	environ := []string{"FC_REGION=" + props.Region}
	var unquoted strings.Builder
	for _, name := range slices.Sorted(maps.Keys(props.EnvironmentVariables)) {
		value := props.EnvironmentVariables[name]
		if value.Tag != "!!str" {
			_, _ = fmt.Fprintf(&unquoted, "%s is %s without quotes: write '%s'\n", name, value.Value, value.Value)
		}
		environ = append(environ, name+"="+value.Value)
	}

	folder, err := os.MkdirTemp("", "settings")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	executable, err := harness.Build(ctx, folder, "./bootstrap")
	if err != nil {
		return err
	}
	//nolint:gosec // G204: the executable that was built just now
	command := exec.CommandContext(ctx, executable, "-check")
	command.Env = environ
	output, err := command.CombinedOutput()
	if !errors.As(err, new(*exec.ExitError)) && err != nil {
		return err
	}
	valid := err == nil && unquoted.Len() == 0
	if !valid {
		output = bytes.TrimSuffix(output, []byte("Every setting is valid.\n"))
	}
	if _, err := fmt.Fprintf(stdout, "%s%s", output, unquoted.String()); err != nil || valid {
		return err
	}
	return errors.New("s.yaml has invalid settings")
}
