#!/usr/bin/env node
// Whether JSON is a message of Google's as their own Node clients define it: every member is known, of its type, and no
// output-only one is sent.
//
//   shapes.mjs PACKAGE MESSAGE <JSON      as in: shapes.mjs cloudbuild google.devtools.cloudbuild.v1.Build
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const protobuf = createRequire(require.resolve('google-gax'))('protobufjs');
const [name, message] = process.argv.slice(2);
const root = protobuf.Root.fromJSON(require(`@google-cloud/${name}/build/protos/protos.json`)).resolveAll();

const scalars = {
    string: v => typeof v === 'string', bool: v => typeof v === 'boolean', double: v => typeof v === 'number',
    int32: v => Number.isInteger(v), int64: v => /^-?\d+$/.test(v), bytes: v => typeof v === 'string',
};

function check(type, value, path) {
    if (type.fullName === '.google.protobuf.Duration') return assert.match(value, /^\d+(\.\d+)?s$/, path);
    assert.equal(typeof value, 'object', path);
    for (const [member, inner] of Object.entries(value)) {
        const field = type.fields[member], at = `${path}.${member}`;
        assert.ok(field, `${at} is no field of ${type.fullName}`);
        assert.notEqual(field.options?.['(google.api.field_behavior)'], 'OUTPUT_ONLY', `${at} is output only`);
        if (field.map) for (const [key, one] of Object.entries(inner)) item(field, one, `${at}.${key}`);
        else if (field.repeated) inner.forEach((one, i) => item(field, one, `${at}[${i}]`));
        else item(field, inner, at);
    }
}

function item(field, value, path) {
    const type = field.resolvedType;
    if (type instanceof protobuf.Enum) assert.ok(value in type.values, `${path}: ${value}`);
    else if (type) check(type, value, path);
    else assert.ok(scalars[field.type]?.(value), `${path}: ${value} is no ${field.type}`);
}

const value = JSON.parse(readFileSync(0, 'utf8'));
check(root.lookupType(message), value, message.split('.').pop());
console.log(`${message}: ${Object.keys(value).length} members`);
