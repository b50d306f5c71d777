// Command settings checks the environment variables of the function in s.yaml, and its
// name, before it is deployed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"increment-backup-download/tests/harness"
)

const usage = `Check the settings of the function in s.yaml before it is deployed:

  go run ./tests/settings

It takes no argument. It lists every mistake in the environment variables and in the name
of the function, and warns of a name that looks like a misspelt setting.
`

func main() {
	flag.Usage = func() { _, _ = io.WriteString(flag.CommandLine.Output(), usage) }
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
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
					FunctionName         string               `yaml:"functionName"`
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
	var mistakes strings.Builder
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,45}$`).MatchString(props.FunctionName) {
		_, _ = fmt.Fprintf(&mistakes, "functionName is %q: give 1 to 46 lower-case letters, digits and hyphens, starting with a letter\n",
			props.FunctionName)
	}
	for _, name := range slices.Sorted(maps.Keys(props.EnvironmentVariables)) {
		value := props.EnvironmentVariables[name]
		switch {
		case value.Tag == "!!null":
			_, _ = fmt.Fprintf(&mistakes, "%s has no value: write '' if it is to be empty\n", name)
		case value.Tag != "!!str":
			_, _ = fmt.Fprintf(&mistakes, "%s is %s without quotes: write '%s'\n", name, value.Value, value.Value)
		case strings.Contains(value.Value, "${vars."):
			_, _ = fmt.Fprintf(&mistakes, "%s is %s, which vars does not have\n", name, value.Value)
			continue
		}
		environ = append(environ, name+"="+strings.ReplaceAll(value.Value, "${config('AccountID')}", "1234567890123456"))
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
	valid := err == nil && mistakes.Len() == 0
	if !valid {
		output = bytes.TrimSuffix(output, []byte("Every setting is valid.\n"))
	}
	if _, err := fmt.Fprintf(stdout, "%s%s", output, mistakes.String()); err != nil || valid {
		return err
	}
	return errors.New("s.yaml has invalid settings")
}
