package events

// What json_test.go holds against encoding/json.
var (
	Valid    = valid
	Unquote  = unquote
	Members  = members
	Elements = elements
)
