// Builds the role of the rendered template with the ROS CDK, which is generated from
// the specification of ROS: it refuses wrong types, and drops names that it does not
// know, so that what comes out must equal what went in.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { App, Stack } = require('@alicloud/ros-cdk-core');
const { RosRole } = require('@alicloud/ros-cdk-ram');

// The CDK writes each name with a small first letter.
function small(value) {
  if (Array.isArray(value)) {
    return value.map(small);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const rename = ([name, part]) => [name[0].toLowerCase() + name.slice(1), small(part)];
  return Object.fromEntries(Object.entries(value).map(rename));
}

module.exports = ({ props }) => {
  const role = props.template.Resources.Role;
  const outdir = fs.mkdtempSync(path.join(os.tmpdir(), 'ros-cdk-'));
  try {
    const app = new App({ outdir });
    new RosRole(new Stack(app, 'stack'), 'Role', small(role.Properties), true);
    const made = app.synth().stacks[0].template.Resources.Role;
    return isDeepStrictEqual(made, role) ? [] : [`Role: ROS reads it as ${JSON.stringify(made)}`];
  } catch (error) {
    return [`Role: ${error.message.split('\nObject creation stack')[0]}`];
  } finally {
    fs.rmSync(outdir, { recursive: true });
  }
};
