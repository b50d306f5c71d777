package standin_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"increment-backup-download/tests/standin"
)

func TestPolicy_AllowsWhatAStatementAllowsAndNoneDenies(t *testing.T) {
	policy, err := standin.ParsePolicy([]byte(`{"Version":"1","Statement":[
		{"Effect":"Allow","Action":"dbs:*","Resource":"*"},
		{"Effect":"Allow","Action":["mns:SendMessage","mns:BatchSendMessage"],"Resource":["acs:mns:*:*:/queues/a/messages","acs:mns:*:*:/queues/b/messages"]},
		{"Effect":"Deny","Action":"*","Resource":"acs:mns:*:*:/queues/b/*"}]}`))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		action, resource string
		allowed          bool
	}{
		"any action of a service": {"dbs:DescribeIncrementBackupList", "*", true},
		"one of a list":           {"mns:BatchSendMessage", "acs:mns:cn-hangzhou:1:/queues/a/messages", true},
		"another action":          {"mns:ReceiveMessage", "acs:mns:cn-hangzhou:1:/queues/a/messages", false},
		"another resource":        {"mns:SendMessage", "acs:mns:cn-hangzhou:1:/queues/a", false},
		"denied":                  {"mns:SendMessage", "acs:mns:cn-hangzhou:1:/queues/b/messages", false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.allowed, policy.Allows(c.action, c.resource))
		})
	}
	assert.True(t, (*standin.Policy)(nil).Allows("any:Action", "*"))
}

func TestPolicy_RemembersWhatWasUsed(t *testing.T) {
	policy, err := standin.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":["a:One","a:Two"],"Resource":["x","y"]}]}`))
	require.NoError(t, err)
	policy.Allows("a:One", "x")
	policy.Allows("a:Three", "y")
	assert.Equal(t, []string{"a:One on y", "a:Two on x", "a:Two on y"}, policy.Unused())
}

func TestPolicy_LosesAnActionUntilItIsRestored(t *testing.T) {
	policy, err := standin.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":["a:One","a:Two"],"Resource":"*"}]}`))
	require.NoError(t, err)
	policy.Revoke("a:One")
	assert.False(t, policy.Allows("a:One", "*"))
	assert.True(t, policy.Allows("a:Two", "*"))
	policy.Restore("a:One")
	assert.True(t, policy.Allows("a:One", "*"))
}

func TestPolicy_ComesFromYAMLToo(t *testing.T) {
	var document any
	require.NoError(t, yaml.Unmarshal([]byte(`
Version: '1'
Statement:
  - Effect: Allow
    Action:
      - mns:SendMessage
      - mns:BatchSendMessage
    Resource: acs:mns:*:*:/queues/a/messages
`), &document))
	policy, err := standin.NewPolicy(document)
	require.NoError(t, err)
	assert.True(t, policy.Allows("mns:BatchSendMessage", "acs:mns:cn-hangzhou:1:/queues/a/messages"))
	assert.False(t, policy.Allows("mns:BatchSendMessage", "acs:mns:cn-hangzhou:1:/queues/b/messages"))
}

func TestPolicy_RefusesWhatItDoesNotUnderstand(t *testing.T) {
	for name, document := range map[string]string{
		"not JSON":              `x`,
		"nothing":               `{}`,
		"no effect":             `{"Statement":[{"Action":"a","Resource":"*"}]}`,
		"no action":             `{"Statement":[{"Effect":"Allow","Resource":"*"}]}`,
		"no resource":           `{"Statement":[{"Effect":"Allow","Action":"a"}]}`,
		"an unresolved action":  `{"Statement":[{"Effect":"Allow","Action":{"Ref":"x"},"Resource":"*"}]}`,
		"an unresolved element": `{"Statement":[{"Effect":"Allow","Action":"a","Resource":[{"Fn::Sub":"x"}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := standin.ParsePolicy([]byte(document))
			assert.Error(t, err)
		})
	}
}
