package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
)

// Policy is a RAM policy that the stand-ins enforce, and that remembers what of it
// was used. A nil Policy allows everything. It is safe for concurrent use.
type Policy struct {
	statements []statement

	mu      sync.Mutex
	used    map[string]bool
	revoked map[string]bool // actions
}

type statement struct {
	Effect   string
	Action   oneOrMore
	Resource oneOrMore
}

type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(value []byte) error {
	var one string
	if json.Unmarshal(value, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(value, (*[]string)(o))
}

// ParsePolicy reads a policy document in JSON. One that says nothing, or that is not
// understood in full, is an error: enforcing half of it would prove nothing.
func ParsePolicy(document []byte) (*Policy, error) {
	var read struct{ Statement []statement }
	if err := json.Unmarshal(document, &read); err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	if len(read.Statement) == 0 {
		return nil, errors.New("the policy has no statement")
	}
	for i, s := range read.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) == 0 || len(s.Resource) == 0 {
			return nil, fmt.Errorf("statement %d of the policy needs an Effect of Allow or Deny, an Action and a Resource", i)
		}
	}
	return &Policy{statements: read.Statement, used: make(map[string]bool), revoked: make(map[string]bool)}, nil
}

// NewPolicy is ParsePolicy for a document that is already decoded, such as from
// YAML.
func NewPolicy(document any) (*Policy, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	return ParsePolicy(text)
}

// Allows reports whether the policy allows an action on a resource: a statement must
// allow it, and none deny it. Patterns may hold "*".
func (p *Policy) Allows(action, resource string) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.revoked[action] {
		return false
	}
	allowed := false
	for _, s := range p.statements {
		pattern, ok := match(s.Action, action)
		on, matches := match(s.Resource, resource)
		if !ok || !matches {
			continue
		}
		if s.Effect == "Deny" {
			return false
		}
		allowed = true
		p.used[pattern+" on "+on] = true
	}
	return allowed
}

// Revoke denies an action from now on, whatever the statements say.
func (p *Policy) Revoke(action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked[action] = true
}

// Restore ends what Revoke did.
func (p *Policy) Restore(action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.revoked, action)
}

// Unused returns what of the policy nothing has used, sorted: "action on resource".
func (p *Policy) Unused() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var unused []string
	for _, s := range p.statements {
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				if grant := action + " on " + resource; !p.used[grant] {
					unused = append(unused, grant)
				}
			}
		}
	}
	slices.Sort(unused)
	return unused
}

func match(patterns []string, value string) (string, bool) {
	for _, pattern := range patterns {
		// path.Match stops a star at a slash, which resources hold.
		ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(value, "/", "\x00"))
		if err == nil && ok {
			return pattern, true
		}
	}
	return "", false
}
