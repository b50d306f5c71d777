// Command settings checks the settings of the function in s.yaml before it is deployed.
// It names every mistake, and warns of a name that looks like a misspelt setting:
//
//	go run ./tests/settings
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"

	"go.yaml.in/yaml/v3"

	"increment-backup-download/tests/harness"
)

func main() {
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
// function.
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
	var mistakes []error
	for _, name := range slices.Sorted(maps.Keys(props.EnvironmentVariables)) {
		value := props.EnvironmentVariables[name]
		if value.Tag != "!!str" {
			mistakes = append(mistakes, fmt.Errorf("%s is %s in s.yaml: put it in quotes, '%s'", name, value.Value, value.Value))
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
	command.Env, command.Stdout, command.Stderr = environ, stdout, stdout
	if err := command.Run(); err != nil {
		mistakes = append(mistakes, fmt.Errorf("s.yaml has wrong settings: %w", err))
	}
	return errors.Join(mistakes...)
}
