package standin

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
)

// Key is a set of test credentials: of an assumed role if it has a Token, else the
// key pair of a user.
type Key struct {
	ID     string
	Secret string
	Token  string
}

// NewKey returns fresh credentials of an assumed role that no real service knows.
func NewKey() Key {
	return Key{ID: "STS.standin" + Random(12), Secret: "secret-" + Random(24), Token: "token-" + Random(48)}
}

// NewKeyPair returns a fresh key pair without a security token, as clients take it
// that know nothing of assumed roles.
func NewKeyPair() Key {
	return Key{ID: "LTAIstandin" + Random(12), Secret: "secret-" + Random(24)}
}

// Random returns n upper-case hex characters.
func Random(n int) string {
	raw := make([]byte, (n+1)/2)
	_, _ = rand.Read(raw) // never fails
	return strings.ToUpper(hex.EncodeToString(raw))[:n]
}

// Keys are the credentials that a stand-in accepts. It is safe for concurrent use.
type Keys struct {
	mu   sync.Mutex
	byID map[string]Key
}

// NewKeys accepts the given credentials.
func NewKeys(keys ...Key) *Keys {
	k := &Keys{byID: make(map[string]Key)}
	for _, key := range keys {
		k.Add(key)
	}
	return k
}

// Add accepts further credentials.
func (k *Keys) Add(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byID[key.ID] = key
}

// Remove stops accepting credentials.
func (k *Keys) Remove(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byID, id)
}

// Find returns the credentials with the given access key ID.
func (k *Keys) Find(id string) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.byID[id]
	return key, ok
}
