package events

// What json_test.go holds against encoding/json.
var (
	Valid    = valid
	Unquote  = unquoteBytes
	Members  = members
	Elements = elements
)
