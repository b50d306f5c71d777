package events

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Command is what a timer trigger or a person asks for, instead of sending events.
type Command struct {
	Check    bool     // check the deployment; never from a timer
	Timer    bool     // a timer trigger asks, not a person
	Discover Discover // the discovery run that is asked for, unless Check is set
}

// Discover asks for a discovery run. The zero value asks for a run with the settings.
type Discover struct {
	BackupPlanIDs []string // each once; empty: those of the settings
	BackupSetIDs  []string // each once: only these sets; empty: all
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

// ReadCommand reads a payload that is a command, and reports whether it is one. Any
// other payload is for a [Decoder]. An error, an [*Error], names the first mistake in
// a command.
//
// A command is the event of a timer trigger ({triggerTime, triggerName, payload}),
// whose payload is absent, empty, {}, or the text of a Discover command; or, as
// typed by hand, {"Discover":{…}} or {"Check":{}}. Their members are exact: an
// unknown or a repeated one is refused, since a run that does something else is worse
// than no run.
func ReadCommand(payload []byte) (Command, bool, error) {
	var o struct {
		TriggerTime     raw `json:"triggerTime"`
		TriggerName     raw `json:"triggerName"`
		Payload         raw `json:"payload"`
		SpecVersion     raw `json:"specversion"`
		MessageBody     raw `json:"messageBody"`
		Discover, Check raw
	}
	text := trim(payload)
	if len(text) > maxCommand || !raw(text).isObject() || unmarshal(text, &o) != nil {
		return Command{}, false, nil
	}
	isCommand := o.Discover != nil || o.Check != nil
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

// timerCommand reads the payload of a timer trigger's event. Whether Function
// Compute leaves out a payload that is not configured, or sends it empty or as
// null, is not documented. See
// https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/user-guide/time-triggers.
func timerCommand(payload raw, beside bool) (Command, error) {
	command := Command{Timer: true}
	text := raw(trim(payload.text()))
	switch {
	case beside:
		return command, malformed("a timer's event has its command in payload, as a string")
	case !payload.isString() && !payload.isNull():
		return command, malformed("the timer's payload must be a string")
	case payload.isNull(), len(text) == 0:
		return command, nil
	case !text.isObject() || unmarshal(text, new(raw)) != nil:
		return command, malformed(`the timer's payload must be empty, {}, or {"Discover":{…}}`)
	case len(names(text)) == 0:
		return command, nil
	}
	read, err := readCommand(text)
	if read.Check {
		err = malformed(`{"Check":{}} is for a person, who reads its answer`)
	}
	command.Discover = read.Discover
	return command, within("the timer's payload", err)
}

// readCommand reads {"Discover":{…}} or {"Check":{}}.
func readCommand(text raw) (Command, error) {
	var o struct{ Discover, Check raw }
	err := unmarshalExactly(text, &o, "the command", `a command is {"Discover":{…}} or {"Check":{}} alone`)
	switch {
	case err != nil:
		return Command{}, err
	case o.Check == nil:
		d, err := readDiscover(o.Discover)
		return Command{Discover: d}, err
	case o.Discover != nil:
		return Command{}, malformed("Discover and Check are two commands: send one of them")
	case !o.Check.isObject() || unmarshalExactly(o.Check, &struct{}{}, "", "") != nil:
		return Command{}, malformed("Check must be {}")
	}
	return Command{Check: true}, nil
}

func readDiscover(text raw) (Discover, error) {
	if !text.isObject() {
		return Discover{}, malformed("Discover must be an object")
	}
	var o struct {
		BackupPlanIDs                      raw `json:"BackupPlanIds"`
		BackupSetIDs                       raw `json:"BackupSetIds"`
		LookbackHours, DryRun, RetryFailed raw
	}
	err := unmarshalExactly(text, &o, "Discover", "it has BackupPlanIds, BackupSetIds, LookbackHours, DryRun and RetryFailed")
	hours := fmt.Sprintf("a whole number from 1 to %d", MaxLookbackHours)
	d := Discover{
		BackupPlanIDs: field[[]string](&err, "BackupPlanIds", o.BackupPlanIDs, "a list of strings"),
		BackupSetIDs:  field[[]string](&err, "BackupSetIds", o.BackupSetIDs, "a list of strings"),
		LookbackHours: field[int](&err, "LookbackHours", o.LookbackHours, hours),
		DryRun:        field[bool](&err, "DryRun", o.DryRun, "true or false"),
		RetryFailed:   field[bool](&err, "RetryFailed", o.RetryFailed, "true or false"),
	}
	switch {
	case err != nil:
		return d, err
	case o.LookbackHours != nil && d.LookbackHours < 1, d.LookbackHours > MaxLookbackHours:
		return d, malformed("LookbackHours must be %s", hours)
	}
	d.BackupPlanIDs, err = checkNames("BackupPlanIds", d.BackupPlanIDs, IsBackupPlanID, "a backup plan ID like dbsqdss5tmh0001")
	if err == nil {
		d.BackupSetIDs, err = checkNames("BackupSetIds", d.BackupSetIDs, IsBackupSetID, "a BackupSetId like mysql-bin.000058")
	}
	return d, err
}

// unmarshalExactly reads an object whose members are the fields of into, each at
// most once. Hint follows the name of an unknown member.
func unmarshalExactly(object raw, into any, what, hint string) error {
	err := json.Unmarshal(object, into, json.RejectUnknownMembers(true))
	var unknown *json.SemanticError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &unknown):
		return malformed("%s has no field %.64q: %s", what, unknown.JSONPointer.LastToken(), hint)
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return malformed("%s has %.64q twice", cmp.Or(syntax.JSONPointer.Parent().LastToken(), what), syntax.JSONPointer.LastToken())
	case err != nil: // it is valid otherwise
		return malformed("%s has bytes that are not UTF-8", what)
	}
	return nil
}

// field reads a field of a command, unless *err is set. If absent, it is the zero value;
// null is an error.
func field[T any](err *error, name string, value raw, kind string) (read T) {
	if *err == nil && value != nil && (value.isNull() || unmarshal(value, &read) != nil) {
		*err = malformed("%s must be %s", name, kind)
	}
	return read
}

// checkNames returns the names of a list, sorted and each once. A nil list was not given.
func checkNames(field string, list []string, valid func(string) bool, what string) ([]string, error) {
	if list != nil && len(list) == 0 {
		return nil, malformed("%s is empty: name at least one, or leave the field out", field)
	}
	if i := slices.IndexFunc(list, func(name string) bool { return !valid(name) }); i >= 0 {
		return nil, malformed("%s has %.64q, which is not %s", field, list[i], what)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// AllPlans stands for every backup plan, in the setting that names plans.
const AllPlans = "all"

// IsBackupPlanID reports whether s may be the ID of a backup plan, such as dbsqdss5tmh0001:
// letters, digits, hyphens and underscores. AllPlans, in upper or lower case, is not an ID.
func IsBackupPlanID(s string) bool {
	return s != "" && !strings.EqualFold(s, AllPlans) && len(s) <= MaxAnswerID && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// IsBackupSetID reports whether s may be a BackupSetId or a BackupSetJobId of an event.
func IsBackupSetID(s string) bool { return s != "" && utf8.RuneCountInString(s) <= maxField }
