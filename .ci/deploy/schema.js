// Checks the function's props with the JSON Schema of the fc3 component.
'use strict';

const fs = require('node:fs');
const Ajv = require('ajv');

module.exports = (file) => {
  const ajv = new Ajv({ allErrors: true, strictSchema: true, validateSchema: true });
  const validate = ajv.compile(JSON.parse(fs.readFileSync(file, 'utf8')));
  return ({ props }) => (validate(props) ? [] : validate.errors.map((e) => `props${e.instancePath}: ${e.message}`));
};
