// Builds each resource of a rendered template with the ROS CDK, which is generated from
// the specification of ROS: it refuses wrong types, and drops names that it does not
// know, so that what comes out must equal what went in.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { App, Stack } = require('@alicloud/ros-cdk-core');
const cms = require('@alicloud/ros-cdk-cms');
const ram = require('@alicloud/ros-cdk-ram');
const sls = require('@alicloud/ros-cdk-sls');

const classes = {
  'ALIYUN::CMS::ResourceMetricRule': cms.RosResourceMetricRule,
  'ALIYUN::RAM::Role': ram.RosRole,
  'ALIYUN::SLS::Alert': sls.RosAlert,
  'ALIYUN::SLS::Dashboard': sls.RosDashboard,
  'ALIYUN::SLS::Index': sls.RosIndex,
  'ALIYUN::SLS::Logstore': sls.RosLogstore,
  'ALIYUN::SLS::Project': sls.RosProject,
};

// Queues are in no published CDK. The properties that are used, as documented:
// https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-mns-queue
const queue = { QueueName: 'string', MessageRetentionPeriod: 'number' };

// The CDK writes each name with a small first letter, and a name of capitals small.
function small(value) {
  if (Array.isArray(value)) {
    return value.map(small);
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const rename = (name) => (name === name.toUpperCase() ? name.toLowerCase() : name[0].toLowerCase() + name.slice(1));
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [rename(name), small(part)]));
}

function checkQueue(name, properties) {
  return Object.entries(properties)
    .filter(([property, value]) => typeof value !== queue[property])
    .map(([property]) => `${name}.${property}: not a ${queue[property] ?? 'property of a queue'}`);
}

function checkResource(name, { Type, Properties }, outdir) {
  if (Type === 'ALIYUN::MNS::Queue') {
    return checkQueue(name, Properties);
  }
  if (!classes[Type]) {
    return [`${name}: ${Type} is not compared with anything`];
  }
  try {
    const app = new App({ outdir });
    new classes[Type](new Stack(app, 'stack'), name, small(Properties), true);
    const made = app.synth().stacks[0].template.Resources[name].Properties;
    return isDeepStrictEqual(made, Properties) ? [] : [`${name}: ROS reads it as ${JSON.stringify(made)}`];
  } catch (error) {
    return [`${name}: ${error.message.split('\nObject creation stack')[0]}`];
  }
}

module.exports = ({ props }) => {
  const outdir = fs.mkdtempSync(path.join(os.tmpdir(), 'ros-cdk-'));
  try {
    return Object.entries(props.template.Resources).flatMap(([name, resource]) => checkResource(name, resource, outdir));
  } finally {
    fs.rmSync(outdir, { recursive: true });
  }
};
