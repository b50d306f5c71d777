package events

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error codes of commands that the settings do not allow.
const (
	CodeNoBackupPlan  = "Event.NoBackupPlan"  // no backup plan is named
	CodeNoSourceQueue = "Event.NoSourceQueue" // there is no queue for announcements
)

// Command is what a timer trigger or a person asks for, instead of sending events.
type Command struct {
	Check    bool     // check the deployment; never from a timer
	Timer    bool     // a timer trigger asks, not a person
	Discover Discover // the discovery run that is asked for, unless Check is set
}

// Discover is a request for a discovery run. The zero value asks for the run that
// the settings describe.
type Discover struct {
	BackupPlanIDs []string // empty: those of the settings
	BackupSetIDs  []string // only these sets; empty: all
	LookbackHours int      // 1 to MaxLookbackHours; 0: not given
	DryRun        bool     // report, and send nothing
	RetryFailed   bool     // announce sets whose download failed, too
}

// MaxLookbackHours bounds how far back discovery looks: DBS keeps a backup set for
// at most 1,825 days. See
// https://www.alibabacloud.com/help/en/dbs/use-cases/retain-minimal-backup-sets.
const MaxLookbackHours = 1_825 * 24

// maxCommand bounds the payload of a command. Function Compute takes 128 KB as the
// payload of a timer trigger, and each of its bytes may be escaped as six. See
// https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/user-guide/time-triggers.
const maxCommand = 1 << 20

// ReadCommand reads a payload that is a command, and reports whether it is one. A
// payload that is none is for a [Decoder]. An error, an [*Error], says what is wrong
// with a command.
//
// A command is the event of a timer trigger ({triggerTime, triggerName, payload}),
// whose payload is absent, empty, {}, or the text of a Discover command; or, as
// typed by hand, {"Discover":{…}} or {"Check":{}}. Their members are exact: an
// unknown or a repeated one is refused, since a run that does something else than
// it was asked for is worse than none.
func ReadCommand(payload []byte) (Command, bool, error) {
	var o struct {
		TriggerTime raw `json:"triggerTime"`
		TriggerName raw `json:"triggerName"`
		Payload     raw `json:"payload"`
		Discover    raw
		Check       raw
		SpecVersion raw `json:"specversion"`
		MessageBody raw `json:"messageBody"`
	}
	text := trim(payload)
	if len(text) > maxCommand || !raw(text).isObject() || unmarshal(text, &o) != nil {
		return Command{}, false, nil
	}
	isCommand := o.Discover != nil || o.Check != nil || isMistyped(names(text))
	switch {
	case o.SpecVersion != nil || o.MessageBody != nil: // an event
	case o.TriggerTime.isString() && o.TriggerName.isString():
		command, err := timerCommand(o.Payload, isCommand)
		return command, true, err
	case isCommand:
		command, err := readCommand(text)
		return command, true, err
	}
	return Command{}, false, nil
}

// isMistyped reports whether an object has one name, and that is the name of a
// command in the wrong case. An event may have more members than ours.
func isMistyped(names []string) bool {
	return len(names) == 1 && (strings.EqualFold(names[0], "Discover") || strings.EqualFold(names[0], "Check"))
}

// timerCommand reads the payload of a timer trigger's event. Whether Function
// Compute leaves out a payload that is not configured, or sends it empty or as
// null, is not documented. See
// https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/user-guide/time-triggers.
func timerCommand(payload raw, beside bool) (Command, error) {
	command := Command{Timer: true}
	switch {
	case beside:
		return command, malformed("a timer's event has its command in payload, as a string")
	case payload.isNull():
		return command, nil
	case !payload.isString():
		return command, malformed("the timer's payload must be a string")
	}
	text := raw(bytes.TrimSpace(payload.text()))
	if len(text) == 0 || isEmptyObject(text) {
		return command, nil
	}
	if !text.isObject() || unmarshal(text, new(raw)) != nil {
		return command, malformed(`the timer's payload must be empty, {}, or {"Discover":{…}}`)
	}
	read, err := readCommand(text)
	if err != nil {
		return command, within("the timer's payload", err)
	}
	if read.Check {
		return command, malformed(`the timer's payload: {"Check":{}} is for a person, who reads its answer`)
	}
	command.Discover = read.Discover
	return command, nil
}

// readCommand reads {"Discover":{…}} or {"Check":{}}.
func readCommand(text raw) (Command, error) {
	var o struct{ Discover, Check raw }
	err := unmarshalExactly(text, &o, "the command", `a command is {"Discover":{…}} or {"Check":{}} alone`)
	switch {
	case err != nil:
		return Command{}, err
	case o.Check == nil:
		discover, err := readDiscover(o.Discover)
		return Command{Discover: discover}, err
	case o.Discover != nil:
		return Command{}, malformed("Discover and Check are two commands: send one of them")
	case !isEmptyObject(o.Check):
		return Command{}, malformed("Check must be {}")
	}
	return Command{Check: true}, nil
}

// readDiscover reads the fields of a Discover command. They are raw, since null is
// no value of any of them.
func readDiscover(text raw) (d Discover, err error) {
	if !text.isObject() {
		return d, malformed("Discover must be an object")
	}
	var o struct {
		BackupPlanIDs raw `json:"BackupPlanIds"`
		BackupSetIDs  raw `json:"BackupSetIds"`
		LookbackHours raw
		DryRun        raw
		RetryFailed   raw
	}
	err = unmarshalExactly(text, &o, "Discover", "it has BackupPlanIds, BackupSetIds, LookbackHours, DryRun and RetryFailed")
	if err == nil {
		d.BackupPlanIDs, err = readNames("BackupPlanIds", o.BackupPlanIDs, IsBackupPlanID, "a backup plan ID, such as dbsqdss5tmh0001")
	}
	if err == nil {
		d.BackupSetIDs, err = readNames("BackupSetIds", o.BackupSetIDs, IsBackupSetID, "a BackupSetId, such as mysql-bin.000058")
	}
	if err == nil {
		d.LookbackHours, err = readLookback(o.LookbackHours)
	}
	if err == nil {
		d.DryRun, err = readBool("DryRun", o.DryRun)
	}
	if err == nil {
		d.RetryFailed, err = readBool("RetryFailed", o.RetryFailed)
	}
	return d, err
}

// unmarshalExactly reads an object whose members are the fields of into, each at
// most once. Fields names them.
func unmarshalExactly(object raw, into any, what, fields string) error {
	err := json.Unmarshal(object, into, json.RejectUnknownMembers(true))
	var unknown *json.SemanticError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &unknown):
		return malformed("%s has no field %.64q: %s", what, unknown.JSONPointer.LastToken(), fields)
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return malformed("%s has %.64q twice", cmp.Or(syntax.JSONPointer.Parent().LastToken(), what), syntax.JSONPointer.LastToken())
	case err != nil:
		return malformed("%s is not in UTF-8", what) // the only other thing that unmarshal lets pass
	}
	return nil
}

// readNames reads a list of names, less repeats.
func readNames(field string, value raw, valid func(string) bool, what string) ([]string, error) {
	if value == nil {
		return nil, nil
	}
	var elements []raw
	if value[0] != '[' || unmarshal(value, &elements) != nil {
		return nil, malformed("%s must be a list of strings", field)
	}
	var names []string
	for _, element := range elements {
		if !element.isString() {
			return nil, malformed("%s must be a list of strings", field)
		}
		name := element.string()
		if !valid(name) {
			return nil, malformed("%s has %.64q, which is not %s", field, name, what)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, malformed("%s is empty: name at least one, or leave the field out", field)
	}
	return names, nil
}

func readLookback(value raw) (int, error) {
	if value == nil {
		return 0, nil
	}
	hours, err := strconv.Atoi(string(value))
	if err != nil || hours < 1 || hours > MaxLookbackHours {
		return 0, malformed("LookbackHours must be a whole number from 1 to %d", MaxLookbackHours)
	}
	return hours, nil
}

func readBool(field string, value raw) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, malformed("%s must be true or false", field)
}

// maxBackupPlanID bounds a backup plan ID; those of DBS have about 15 characters.
const maxBackupPlanID = 128

// AllPlans stands for every backup plan, in the setting that names plans.
const AllPlans = "all"

// IsBackupPlanID reports whether s may be the ID of a backup plan, such as
// dbsqdss5tmh0001: letters, digits, hyphens and underscores. AllPlans is no ID.
func IsBackupPlanID(s string) bool {
	return s != "" && s != AllPlans && len(s) <= maxBackupPlanID && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// IsBackupSetID reports whether s may be a BackupSetId or a BackupSetJobId of an event.
func IsBackupSetID(s string) bool { return s != "" && utf8.RuneCountInString(s) <= maxField }

// isEmptyObject reports whether text is an object without members.
func isEmptyObject(text raw) bool {
	return text.isObject() && json.Unmarshal(text, &struct{}{}, json.RejectUnknownMembers(true)) == nil
}
