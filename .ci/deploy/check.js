// Checks a rendered s.yaml, and that each check finds its slips:
//
//	node check.js <preview without credentials> <preview with them> [<schema of fc3>]
'use strict';

const fs = require('node:fs');
const slips = require('./slips.js');

// The command line writes warnings before the JSON.
function read(file) {
  const text = fs.readFileSync(file, 'utf8');
  return text.slice(text.search(/^\{/m));
}

const [without, withCredentials] = process.argv.slice(2, 4).map(read);
const schema = process.argv[4];
let failed = false;
function report(name, mistakes) {
  console.log(`${name}: ${mistakes.length === 0 ? 'ok' : 'FAILED'}`);
  mistakes.forEach((m) => console.log(`  ${m}`));
  failed ||= mistakes.length > 0;
}

// Without credentials only the account stays open, and with them nothing does.
const account = process.env.AccountID;
report('preview', [
  ...(without.replaceAll("${config('AccountID')}", account) === withCredentials ? [] : ['credentials change more than the account']),
  ...[...withCredentials.matchAll(/\$\{[^}]*\}/g)].map(([reference]) => `${reference} stays open`),
  ...(withCredentials.includes(process.env.AccessKeySecret) ? ['it shows the secret'] : []),
]);

const { resources } = JSON.parse(withCredentials);
const ros = require('./ros.js');
const checks = {
  models: [resources.function, require('./models.js')],
  resources: [resources.resources, ros],
  alarms: [resources.alarms, ros],
};
if (schema) {
  checks.schema = [resources.function, require('./schema.js')(schema)];
}
for (const [name, [resource, check]] of Object.entries(checks)) {
  const mistakes = check(resource);
  report(name, mistakes);
  if (mistakes.length > 0) {
    continue; // the slips are made in what is right
  }
  const missed = Object.entries(slips[name]).flatMap(([slip, make]) => {
    const changed = structuredClone(resource);
    make(changed.props);
    return check(changed).length > 0 ? [] : [slip];
  });
  report(`${name} finds each of ${Object.keys(slips[name]).length} slips`, missed);
}
process.exitCode = failed ? 1 : 0;
