package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Deployment is s.yaml with its vars put in. Other references, such as
// ${config('AccountID')}, stay as they are.
type Deployment struct {
	Vars map[string]string
	root yaml.Node
}

// ReadDeployment reads the project's s.yaml.
func ReadDeployment() (*Deployment, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "s.yaml"))
	if err != nil {
		return nil, err
	}
	return ParseDeployment(text)
}

// ParseDeployment reads the text of an s.yaml.
func ParseDeployment(text []byte) (*Deployment, error) {
	var read struct{ Vars map[string]yaml.Node }
	if err := yaml.Unmarshal(text, &read); err != nil {
		return nil, fmt.Errorf("s.yaml: %w", err)
	}
	d := &Deployment{Vars: make(map[string]string)}
	for name, value := range read.Vars {
		d.Vars[name] = value.Value
	}
	if err := yaml.Unmarshal(text, &d.root); err != nil {
		return nil, fmt.Errorf("s.yaml: %w", err)
	}
	render(&d.root, read.Vars)
	return d, nil
}

// render replaces ${vars.name} in the scalars of a tree. A variable that stands alone
// keeps its type, as with Serverless Devs: one without quotes may become a number.
func render(node *yaml.Node, vars map[string]yaml.Node) {
	if node.Kind == yaml.ScalarNode && strings.Contains(node.Value, "${vars.") {
		tag := "!!str"
		for name, value := range vars {
			reference := "${vars." + name + "}"
			if node.Value == reference {
				tag = value.Tag
			}
			node.Value = strings.ReplaceAll(node.Value, reference, value.Value)
		}
		node.Tag = tag
	}
	for _, child := range node.Content {
		render(child, vars)
	}
}

// Decode reads the deployment into a value, which may name a part of the keys.
func (d *Deployment) Decode(into any) error {
	return d.root.Decode(into)
}
