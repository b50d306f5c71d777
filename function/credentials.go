package function

import (
	"context"
	"strings"

	"increment-backup-download/handler/cloud"

	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
)

// accessKey is a set of credentials. It is held by pointer: package fmt, which does
// not call the methods of an unexported field, prints no more of that than an
// address.
type accessKey struct{ id, secret, token string }

// String keeps the secret and the token out of what prints the key itself.
func (k accessKey) String() string { return "accessKey(***)" }

// GoString does so for %#v.
func (k accessKey) GoString() string { return k.String() }

func (k *accessKey) complete() bool { return k != nil && k.id != "" && k.secret != "" }

type accessKeyInContext struct{}

// invocationOf returns the request ID of an invocation, and its context with its
// credentials. They are read once, here: the runtime SDK's FromContext writes to
// what it returns, so that the workers of an invocation would race.
func invocationOf(ctx context.Context) (invocation context.Context, requestID string) {
	fc, ok := fccontext.FromContext(ctx)
	if !ok {
		return ctx, ""
	}
	given := fc.Credentials
	key := &accessKey{id: given.AccessKeyId, secret: given.AccessKeySecret, token: given.SecurityToken}
	return context.WithValue(ctx, accessKeyInContext{}, key), fc.RequestID
}

// accessKeyOf returns the credentials of the invocation that ctx belongs to, or
// those of the environment if Function Compute gave it none. Those of the invocation
// are fresh each time; those of the environment are as old as the instance. The default
// chain of credentials-go (v1.4.14) is not used: it blocks on the network, and races.
func accessKeyOf(ctx context.Context, fallback *accessKey) (*accessKey, error) {
	if key, ok := ctx.Value(accessKeyInContext{}).(*accessKey); ok && key.complete() {
		return key, nil
	}
	if fallback.complete() {
		return fallback, nil
	}
	return nil, &cloud.Error{
		Kind:    cloud.OperatorFault,
		Service: "Function Compute",
		Code:    "NoCredentials",
		Message: "the invocation came without credentials: give the function a role (s.yaml: role)",
	}
}

// redact withholds a message that quotes the credentials or the signed request, as
// services do when they refuse a signature, or a link to a backup, which is
// signed too.
func (k *accessKey) redact(message string) string {
	for _, telling := range []string{
		k.secret, k.token, "ignature=", "string to sign", "Authorization", "OSSAccessKeyId", "x-oss-",
	} {
		if telling != "" && strings.Contains(message, telling) {
			return "(the message quotes the signed request and is withheld)"
		}
	}
	return message
}
