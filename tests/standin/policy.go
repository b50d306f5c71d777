package standin

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"sync"
)

// Policy is a RAM policy that the stand-ins enforce, and that remembers what of it
// was used. A nil Policy allows everything. It is safe for
// concurrent use.
type Policy struct {
	statements []statement

	mu   sync.Mutex
	used map[string]bool
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

// ParsePolicy reads a policy document.
func ParsePolicy(document []byte) (*Policy, error) {
	var read struct{ Statement []statement }
	if err := json.Unmarshal(document, &read); err != nil {
		return nil, err
	}
	return &Policy{statements: read.Statement, used: make(map[string]bool)}, nil
}

// Allows reports whether the policy allows an action on a resource: whether a
// statement allows it and none denies it. Patterns may hold "*".
func (p *Policy) Allows(action, resource string) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
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

// Unused returns what the policy allows and nothing has used: "action on resource".
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
