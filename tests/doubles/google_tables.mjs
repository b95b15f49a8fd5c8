#!/usr/bin/env node
// Writes google_tables.c: what google-api knows of Google's methods and messages, out of Google's own descriptions.
//
//   google_tables.mjs FOLDER >google_tables.c
//
// FOLDER holds the discovery documents as SERVICE.VERSION.json (https://SERVICE.googleapis.com/$discovery/rest?version=VERSION):
// artifactregistry.v1 cloudkms.v1 cloudresourcemanager.v3 iam.v1 iamcredentials.v1 logging.v2 run.v2 secretmanager.v1
// serviceusage.v1 storage.v1. Only the methods named here are taken, and the messages that they take.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const wanted = `
artifactregistry.projects.locations.: operations.get repositories.create repositories.delete repositories.get
artifactregistry.projects.locations.repositories.: getIamPolicy list packages.tags.get setIamPolicy
cloudkms.projects.locations.keyRings.: create get getIamPolicy list setIamPolicy
cloudkms.projects.locations.keyRings.cryptoKeys.: create decrypt encrypt get getIamPolicy list patch setIamPolicy
cloudkms.projects.locations.keyRings.cryptoKeys.cryptoKeyVersions.: destroy get list
cloudresourcemanager.: operations.get
cloudresourcemanager.projects.: create get getIamPolicy search setIamPolicy testIamPermissions
iam.projects.roles.: create delete get patch undelete
iam.projects.serviceAccounts.: create delete get getIamPolicy list setIamPolicy undelete
iam.projects.serviceAccounts.keys.: create delete get list
iamcredentials.projects.serviceAccounts.: generateAccessToken
logging.entries.: list
run.projects.locations.jobs.: create delete get getIamPolicy list patch run setIamPolicy
run.projects.locations.jobs.executions.: cancel delete get list tasks.get tasks.list
run.projects.locations.services.: create delete get getIamPolicy patch setIamPolicy
run.projects.locations.operations.: get list wait delete
secretmanager.projects.secrets.: addVersion create delete get getIamPolicy list setIamPolicy
secretmanager.projects.secrets.versions.: access destroy disable enable get list
serviceusage.: operations.get services.batchEnable services.batchGet services.disable services.enable services.get services.list
storage.buckets.: delete get getIamPolicy insert list patch setIamPolicy testIamPermissions
storage.objects.: compose delete get insert list patch
`;

const ids = new Set();
for (const line of wanted.trim().split('\n')) {
    const [prefix, names] = line.split(': ');
    for (const name of names.split(' ')) ids.add(prefix.replace(/:$/, '') + name);
}

const folder = process.argv[2];
const methods = [];
const schemas = [];

function* all(node) {
    yield* Object.values(node.methods ?? {});
    for (const resource of Object.values(node.resources ?? {})) yield* all(resource);
}

const formats = {
    int32: 'i', uint32: 'i', int64: 'l', uint64: 'l', byte: 'y', double: 'n', float: 'n',
    'google-duration': 'd', 'google-datetime': 't', 'date-time': 't', date: 's', 'google-fieldmask': 'f',
};

// A message inside a message gets a name of its own: OUTER.FIELD.
function type(spec, refs, name) {
    if (spec.$ref) {
        refs.push([spec.$ref]);
        return spec.$ref;
    }
    if (spec.type === 'array') return `[${type(spec.items, refs, name)}]`;
    if (spec.type === 'object' && spec.properties) {
        refs.push([name, spec]);
        return name;
    }
    if (spec.type === 'object') {
        const inner = spec.additionalProperties;
        return inner ? `{${type(inner, refs, name)}}` : '{*}';
    }
    if (spec.enum) return `(${spec.enum.join('|')})`;
    if (spec.type === 'any') return '*';
    if (spec.type === 'boolean') return 'b';
    return formats[spec.format] ?? { string: 's', integer: 'i', number: 'n' }[spec.type];
}

function schema(doc, service, done, name, inner) {
    if (done.has(name)) return;
    done.add(name);
    const refs = [];
    const fields = Object.entries((inner ?? doc.schemas[name]).properties ?? {}).map(
        ([field, spec]) => `${field}=${spec.readOnly ? '!' : ''}${type(spec, refs, `${name}.${field}`)}`);
    schemas.push([`${service}.${name}`, ...fields].join(' '));
    for (const ref of refs) schema(doc, service, done, ...ref);
}

for (const file of readdirSync(folder).filter(f => /\.v\d\.json$/.test(f)).sort()) {
    const doc = JSON.parse(readFileSync(join(folder, file)));
    const service = file.split('.')[0];
    const done = new Set();
    for (const method of all(doc)) {
        if (!ids.delete(method.id)) continue;
        const path = '/' + (doc.servicePath ?? '') + (method.flatPath ?? method.path).replace(/\{[^}]*\}/g, '*');
        const params = Object.entries(method.parameters ?? {})
            .filter(([, spec]) => spec.location === 'query')
            .map(([name, spec]) => `${name}=${type(spec, [])}`);
        const request = method.request?.$ref;
        if (request) schema(doc, service, done, request);
        methods.push([method.id, method.httpMethod, path, request ? `${service}.${request}` : '-', ...params].join(' '));
    }
}
if (ids.size) throw new Error(`not in the descriptions: ${[...ids].join(' ')}`);

// A literal of pieces that fit a line.
function literal(text) {
    const pieces = text.match(/.{1,92}/g).map(piece => `"${piece.replaceAll('"', '\\"')}"`);
    return '    ' + pieces.join('\n    ') + ',\n';
}

process.stdout.write(`/* Made by google_tables.mjs of Google's own descriptions; google_schema.h says how it reads. */
#include "google_schema.h"

/* clang-format off */
const char *const google_methods[] = {
${methods.map(literal).join('')}    NULL,
};

const char *const google_schemas[] = {
${schemas.map(literal).join('')}    NULL,
};
`);
