package events

type Raw = raw

var (
	Unmarshal = unmarshal
	Elements  = elements
)
