// Slips in a rendered s.yaml, each by the check that must find it.
'use strict';

const stream = (props) => props.triggers.find((t) => t.triggerType === 'eventbridge').triggerConfig;
const source = (props) => stream(props).eventSourceConfig.eventSourceParameters.sourceMNSParameters;
const timer = (props) => props.triggers.find((t) => t.triggerType === 'timer').triggerConfig;
const made = (props, name) => props.template.Resources[name].Properties;
const role = (props) => made(props, 'Role');
const rename = (map, from, to) => {
  map[to] = map[from];
  delete map[from];
};

module.exports = {
  models: {
    'batchWindow misspelt': (props) => rename(stream(props).runOptions, 'batchWindow', 'batchwindow'),
    'a window in a string': (props) => { stream(props).runOptions.batchWindow.CountBasedWindow = '100'; },
    'a mode of the delivery': (props) => { stream(props).eventSinkConfig.deliveryOption.mode = 'event-streaming'; },
    'QueueName misspelt': (props) => rename(source(props), 'QueueName', 'queueName'),
    'memorySize in a string': (props) => { props.memorySize = '128'; },
    'a setting that is a number': (props) => { props.environmentVariables.LOG_LEVEL = 1; },
    'cronExpression misspelt': (props) => rename(timer(props), 'cronExpression', 'cron'),
    'a payload that is a map': (props) => { timer(props).payload = {}; },
    'attempts in a string': (props) => { props.asyncInvokeConfig.maxAsyncRetryAttempts = '0'; },
    'a trigger of another type': (props) => { props.triggers[0].triggerType = 'event'; },
  },
  resources: {
    'an action that is no list': (props) => { role(props).Policies[0].PolicyDocument.Statement[0].Action = 'dbs:*'; },
    'Resource misspelt': (props) => rename(role(props).Policies[0].PolicyDocument.Statement[0], 'Resource', 'Resources'),
    'RoleName misspelt': (props) => rename(role(props), 'RoleName', 'Name'),
    'nobody is trusted': (props) => { delete role(props).AssumeRolePolicyDocument; },
    'DeletionForce in a string': (props) => { role(props).DeletionForce = 'force'; },
    'QueueName misspelt': (props) => rename(made(props, 'SourceQueue'), 'QueueName', 'Name'),
    'a retention in a string': (props) => { made(props, 'ResultQueue').MessageRetentionPeriod = '604800'; },
    'TTL misspelt': (props) => rename(made(props, 'Logstore'), 'TTL', 'Ttl'),
    'a field of an unknown type': (props) => { made(props, 'LogIndex').KeyIndices[0].Type = 'string'; },
    'a resource of an unknown type': (props) => { props.template.Resources.Role.Type = 'ALIYUN::RAM::Roles'; },
  },
  alarms: {
    'Query misspelt': (props) => rename(made(props, 'Silence').Detail.Configuration.QueryList[0], 'Query', 'Search'),
    'a severity that does not exist': (props) => { made(props, 'Silence').Detail.Configuration.NoDataSeverity = 7; },
    'a threshold that is a number': (props) => { made(props, 'DeadLetters').Escalations.Critical.Threshold = 0; },
    'Charts misspelt': (props) => rename(made(props, 'Dashboard'), 'Charts', 'Chart'),
  },
  schema: {
    'memorySize in a string': (props) => { props.memorySize = '128'; },
    'no runtime': (props) => { delete props.runtime; },
    'a trigger of an unknown type': (props) => { props.triggers[0].triggerType = 'event'; },
    'attempts beyond the limit': (props) => { props.asyncInvokeConfig.maxAsyncRetryAttempts = 9; },
  },
};
