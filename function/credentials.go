package function

import (
	"context"
	"net/url"
	"strings"

	"github.com/aliyun/credentials-go/credentials"
	"github.com/aliyun/credentials-go/credentials/providers"
	"github.com/aliyun/fc-runtime-go-sdk/fccontext"

	"increment-backup-download/handler/cloud"
)

// credential returns what a [credentials.Credential] holds; nil if there is none. A
// Credential itself, and the model that it returns, print their secrets
// (CredentialModel.String in credentials-go v1.4.14). A function prints as an address,
// so everything that holds one may be printed. The model lives only in the call that
// signs with it.
type credential func() *credentials.CredentialModel

// newCredential returns a credential of type sts, or access_key if there is no token.
// It returns nil if the ID or the secret is missing: credentials-go would take that
// from the environment of the process, and mix two identities (static_sts.go and
// static_ak.go of v1.4.14).
func newCredential(id, secret, token string) credential {
	if id == "" || secret == "" {
		return nil
	}
	// Not by NewCredential, which links the providers of every type. With all parts
	// there, neither Build nor GetCredential fails.
	var static credentials.Credential
	if token == "" {
		provider, _ := providers.NewStaticAKCredentialsProviderBuilder().WithAccessKeyId(id).WithAccessKeySecret(secret).Build()
		static = credentials.FromCredentialsProvider("access_key", provider)
	} else {
		provider, _ := providers.NewStaticSTSCredentialsProviderBuilder().
			WithAccessKeyId(id).WithAccessKeySecret(secret).WithSecurityToken(token).Build()
		static = credentials.FromCredentialsProvider("sts", provider)
	}
	return func() *credentials.CredentialModel {
		key, _ := static.GetCredential()
		return key
	}
}

type credentialInContext struct{}

// invocationOf returns the request ID of an invocation, and its context with its
// credentials. They are read once, here: the runtime SDK's FromContext writes to
// what it returns, so that the workers of an invocation would race.
func invocationOf(ctx context.Context) (invocation context.Context, requestID string) {
	fc, ok := fccontext.FromContext(ctx)
	if !ok {
		return ctx, ""
	}
	given := fc.Credentials
	own := newCredential(given.AccessKeyId, given.AccessKeySecret, given.SecurityToken)
	return context.WithValue(ctx, credentialInContext{}, own), fc.RequestID
}

// credentialOf returns the credential of the invocation that ctx belongs to, or that
// of the environment if Function Compute gave it none. That of the invocation is fresh
// each time; that of the environment is as old as the instance. The default chain of
// credentials-go (v1.4.14) is not used: it blocks on the network, and races.
func credentialOf(ctx context.Context, fallback credential) (credential, error) {
	if own, _ := ctx.Value(credentialInContext{}).(credential); own != nil {
		return own, nil
	}
	if fallback != nil {
		return fallback, nil
	}
	return nil, &cloud.Error{Kind: cloud.OperatorFault, Service: "Function Compute", Code: "NoCredentials",
		Message: "the invocation came without credentials", Fix: "give the function a role (s.yaml: role)"}
}

const withheld = "(the message quotes a signed request or link and is withheld)"

// redact withholds a message that quotes the credentials, or a signed request, as
// services do when they refuse a signature, or a signed link to a backup.
func (c credential) redact(message string) string {
	key := c()
	lower := strings.ToLower(message)
	for _, text := range []string{"signature=", "signature%3d", "string to sign", "ossaccesskeyid", "x-oss-",
		"security-token=", "securitytoken=", "security-token%3d", "securitytoken%3d"} {
		if strings.Contains(lower, text) {
			return withheld
		}
	}
	for _, text := range []string{"Authorization", *key.AccessKeySecret, *key.SecurityToken} { // authorization is a usual word
		if text != "" && (strings.Contains(message, text) || strings.Contains(message, url.QueryEscape(text))) {
			return withheld
		}
	}
	return message
}
