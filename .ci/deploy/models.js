// Compares the rendered function with the API's models: every name and type in it
// must be one that the API knows. The component's schema is looser: it lets unknown
// keys through, and everything inside of triggerConfig.
'use strict';

const fc = require('@alicloud/fc20230330');

// What the component reads itself, or sends by other calls.
const componentProps = ['region', 'triggers', 'asyncInvokeConfig', 'code', 'logConfig'];
const triggerConfigs = { eventbridge: fc.EventBridgeTriggerConfig, timer: fc.TimerTriggerConfig };

// compare returns the differences between a value and a model. A model has the
// names on the wire as the values of names(), and the types by its own names.
function compare(model, value, path) {
  const wire = Object.fromEntries(Object.entries(model.names()).map(([own, name]) => [name, own]));
  const types = model.types();
  return Object.entries(value).flatMap(([name, part]) =>
    name in wire ? compareType(types[wire[name]], part, `${path}.${name}`) : [`${path}.${name}: the API does not know it`]);
}

function compareType(type, value, path) {
  if ((typeof type === 'function' || type.type === 'map') && !isMap(value)) {
    return [`${path}: is no map`];
  }
  if (typeof type === 'function') {
    return compare(type, value, path);
  }
  switch (type.type ?? type) {
    case 'map':
      return Object.entries(value).flatMap(([name, part]) => compareType(type.valueType, part, `${path}.${name}`));
    case 'array':
      return Array.isArray(value)
        ? value.flatMap((part, i) => compareType(type.itemType, part, `${path}[${i}]`))
        : [`${path}: is no list`];
    case 'any':
      return [];
    default:
      return typeof value === type ? [] : [`${path}: is a ${typeof value}, the API wants a ${type}`];
  }
}

const isMap = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const without = (value, names) => Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)));

function checkTrigger(trigger, path) {
  const config = triggerConfigs[trigger.triggerType];
  if (!config) {
    return [`${path}.triggerType: ${trigger.triggerType} is not compared with anything`];
  }
  // The API takes triggerConfig as JSON in a string; the component writes it.
  return [
    ...compare(fc.CreateTriggerInput, without(trigger, ['triggerConfig']), path),
    ...compare(config, trigger.triggerConfig, `${path}.triggerConfig`),
  ];
}

module.exports = ({ props }) => [
  ...compare(fc.CreateFunctionInput, without(props, componentProps), 'props'),
  // The qualifier goes into the query.
  ...compare(fc.PutAsyncInvokeConfigInput, without(props.asyncInvokeConfig, ['qualifier']), 'props.asyncInvokeConfig'),
  ...props.triggers.flatMap((trigger, i) => checkTrigger(trigger, `props.triggers[${i}]`)),
];
