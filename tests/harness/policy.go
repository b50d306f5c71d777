package harness

import (
	"errors"

	"increment-backup-download/tests/standin"
)

// Policy reads the RAM policy that s.yaml gives the function's role.
func Policy() (*standin.Policy, error) {
	d, err := ReadDeployment()
	if err != nil {
		return nil, err
	}
	document, err := d.Policy()
	if err != nil {
		return nil, err
	}
	return standin.NewPolicy(document)
}

// Policy returns the policy document of the function's role.
func (d *Deployment) Policy() (map[string]any, error) {
	var read struct {
		Resources struct {
			Resources struct {
				Props struct {
					Template struct {
						Resources struct {
							Role struct {
								Properties struct {
									Policies []struct {
										PolicyDocument map[string]any `yaml:"PolicyDocument"`
									} `yaml:"Policies"`
								} `yaml:"Properties"`
							} `yaml:"Role"`
						} `yaml:"Resources"`
					}
				}
			}
		}
	}
	if err := d.Decode(&read); err != nil {
		return nil, err
	}
	policies := read.Resources.Resources.Props.Template.Resources.Role.Properties.Policies
	if len(policies) != 1 {
		return nil, errors.New("s.yaml: the role has not exactly one policy")
	}
	return policies[0].PolicyDocument, nil
}
