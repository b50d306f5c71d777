package events

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"increment-backup-download/events/rawjson"
)

// Error codes of commands that the settings do not allow.
const (
	CodeNoBackupPlan  = "Event.NoBackupPlan"  // no backup plan is named
	CodeNoSourceQueue = "Event.NoSourceQueue" // there is no queue for announcements
)

// Command is what a timer trigger or a person asks for, instead of sending events.
type Command struct {
	Discover *Discover // the discovery run that is asked for, if one is
	Check    bool      // the deployment is to be checked; never from a timer
	Timer    bool      // a timer trigger asks, not a person
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
// payload that is none is for a [Decoder]; to find that out costs little, even if
// the payload is large. An error, an
// [*Error], says what is wrong with a command.
//
// A command is the event of a timer trigger ({triggerTime, triggerName, payload}),
// whose payload is absent, empty, {}, or the text of a Discover command; or, as
// typed by hand, {"Discover":{…}} or {"Check":{}}. Their members are exact: an
// unknown or a repeated one is refused, since a run that does something else than
// it was asked for is worse than none.
func ReadCommand(payload []byte) (Command, bool, error) {
	text := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(payload), []byte("\xef\xbb\xbf")))
	if len(text) > maxCommand || !rawjson.IsObject(text) || !mayBeCommand(text) || !rawjson.Valid(text) {
		return Command{}, false, nil
	}
	var timer timerEvent
	var isEvent, isCommand bool
	for name, value := range rawjson.Members(text) {
		switch string(name) {
		case "triggerTime":
			timer.time = value
		case "triggerName":
			timer.name = value
		case "payload":
			timer.payload = value
		case "Discover", "Check":
			isCommand = true
		case "discover", "check":
			// Only the names that are alone: an event may have more members than ours.
			isCommand = isCommand || isAlone(text)
		case "specversion", "messageBody":
			isEvent = true
		}
	}
	switch {
	case isEvent:
		return Command{}, false, nil
	case rawjson.IsString(timer.time) && rawjson.IsString(timer.name):
		command, err := timer.command(isCommand)
		return command, true, err
	case isCommand:
		command, err := readCommand(text)
		return command, true, err
	}
	return Command{}, false, nil
}

// mayBeCommand reports whether a name of a command is anywhere in text.
func mayBeCommand(text []byte) bool {
	return slices.ContainsFunc([]string{`"triggerTime"`, `"Discover"`, `"Check"`, `"discover"`, `"check"`},
		func(name string) bool { return bytes.Contains(text, []byte(name)) })
}

func isAlone(object []byte) bool {
	n := 0
	for range rawjson.Members(object) {
		n++
	}
	return n == 1
}

// timerEvent holds the members of a timer trigger's event. See
// https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/user-guide/time-triggers.
type timerEvent struct{ time, name, payload []byte }

// command reads what the timer asks for. Whether Function Compute leaves out a
// payload that is not configured, or sends it empty or as null, is not documented.
func (e timerEvent) command(beside bool) (Command, error) {
	command := Command{Discover: &Discover{}, Timer: true}
	switch {
	case beside:
		return command, malformed("a timer's event has its command in payload, as a string")
	case rawjson.IsNull(e.payload):
		return command, nil
	case !rawjson.IsString(e.payload):
		return command, malformed("the timer's payload must be a string")
	}
	text := bytes.TrimSpace([]byte(unquote(e.payload)))
	switch {
	case len(text) == 0:
		return command, nil
	case !rawjson.Valid(text) || !rawjson.IsObject(text):
		return command, malformed(`the timer's payload must be empty, {}, or {"Discover":{…}}`)
	case isEmptyObject(text):
		return command, nil
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
func readCommand(text []byte) (Command, error) {
	var command Command
	err := readMembers(text, "the command", func(name string, value []byte) error {
		switch name {
		case "Discover":
			discover, err := readDiscover(value)
			command.Discover = &discover
			return err
		case "Check":
			command.Check = true
			if !rawjson.IsObject(value) || !isEmptyObject(value) {
				return malformed("Check must be {}")
			}
			return nil
		}
		return malformed("%.64q is not part of a command: send {\"Discover\":{…}} or {\"Check\":{}} alone", name)
	})
	switch {
	case err != nil:
		return command, err
	case command.Discover != nil && command.Check:
		return command, malformed("Discover and Check are two commands: send one of them")
	}
	return command, nil
}

func readDiscover(text []byte) (Discover, error) {
	var d Discover
	if !rawjson.IsObject(text) {
		return d, malformed("Discover must be an object")
	}
	err := readMembers(text, "Discover", func(name string, value []byte) (err error) {
		switch name {
		case "BackupPlanIds":
			d.BackupPlanIDs, err = readNames(name, value, IsBackupPlanID, "a backup plan ID, such as dbsqdss5tmh0001")
		case "BackupSetIds":
			d.BackupSetIDs, err = readNames(name, value, IsBackupSetID, "a BackupSetId, such as mysql-bin.000058")
		case "LookbackHours":
			d.LookbackHours, err = readLookback(value)
		case "DryRun":
			d.DryRun, err = readBool(name, value)
		case "RetryFailed":
			d.RetryFailed, err = readBool(name, value)
		default:
			err = malformed("Discover has no field %.64q: it has BackupPlanIds, BackupSetIds, LookbackHours, DryRun "+
				"and RetryFailed", name)
		}
		return err
	})
	return d, err
}

// readMembers calls read for each member of an object, and refuses a repeated one.
func readMembers(object []byte, what string, read func(name string, value []byte) error) error {
	seen := make(map[string]bool)
	for member, value := range rawjson.Members(object) {
		name := string(member)
		if seen[name] {
			return malformed("%s has %.64q twice", what, name)
		}
		seen[name] = true
		if err := read(name, value); err != nil {
			return err
		}
	}
	return nil
}

// readNames reads a list of names, less repeats.
func readNames(field string, value []byte, valid func(string) bool, what string) ([]string, error) {
	if len(value) == 0 || value[0] != '[' {
		return nil, malformed("%s must be a list of strings", field)
	}
	var names []string
	seen := make(map[string]bool)
	for element := range rawjson.Elements(value) {
		if !rawjson.IsString(element) {
			return nil, malformed("%s must be a list of strings", field)
		}
		name := unquote(element)
		if !valid(name) {
			return nil, malformed("%s has %.64q, which is not %s", field, name, what)
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, malformed("%s is empty: name at least one, or leave the field out", field)
	}
	return names, nil
}

func readLookback(value []byte) (int, error) {
	hours, err := strconv.Atoi(string(value))
	if err != nil || hours < 1 || hours > MaxLookbackHours {
		return 0, malformed("LookbackHours must be a whole number from 1 to %d", MaxLookbackHours)
	}
	return hours, nil
}

func readBool(field string, value []byte) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, malformed("%s must be true or false", field)
}

// maxBackupPlanID bounds a backup plan ID; those of DBS have about 15 characters.
const maxBackupPlanID = 128

// IsBackupPlanID reports whether s may be the ID of a backup plan, such as
// dbsqdss5tmh0001: letters, digits, hyphens and underscores.
func IsBackupPlanID(s string) bool {
	return s != "" && len(s) <= maxBackupPlanID && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// IsBackupSetID reports whether s may be a BackupSetId or a BackupSetJobId of an event.
func IsBackupSetID(s string) bool { return s != "" && utf8.RuneCountInString(s) <= maxField }

// isEmptyObject reports whether a valid JSON object has no members.
func isEmptyObject(object []byte) bool {
	for range rawjson.Members(object) {
		return false
	}
	return true
}
