// Google's own clients against the stand-in for Google's APIs: what they send must be taken, and what it answers must
// satisfy them.
//
//   clients.mjs BASE KEY_FILE PROJECT JOB_NAME KEY_NAME SECRET BUCKET
//
// The job, key, secret and bucket are there already. Google's libraries come by their tokens in three ways: from the
// token endpoint, from the metadata server, and by signing one themselves.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const [base, keyFile, project, jobName, keyName, secret, bucketName] = process.argv.slice(2);
const { port, host } = new URL(base);
process.env.GCE_METADATA_HOST = host;

const require = createRequire(import.meta.url);
const gax = createRequire(require.resolve('google-gax')); // has an auth library of its own
const { JWT: SelfSigned, Compute } = gax('google-auth-library');
const { Storage } = require('@google-cloud/storage');
const { JWT } = require('google-auth-library');
const { Gaxios } = require('gaxios');
const { JobsClient, ExecutionsClient, TasksClient } = require('@google-cloud/run').v2;
const { KeyManagementServiceClient } = require('@google-cloud/kms');
const { SecretManagerServiceClient } = require('@google-cloud/secret-manager');
const { CloudBuildClient } = require('@google-cloud/cloudbuild');
const { CloudBillingClient } = require('@google-cloud/billing');
const { ProjectsClient } = require('@google-cloud/resource-manager');
const { FirewallsClient, GlobalOperationsClient, NetworksClient, SubnetworksClient } = require('@google-cloud/compute');

const crcTable = Array.from({ length: 256 }, (_, i) => {
    for (let k = 0; k < 8; k++) i = i & 1 ? (i >>> 1) ^ 0x82f63b78 : i >>> 1;
    return i >>> 0;
});

function crc32c(data) {
    let crc = 0xffffffff;
    for (const byte of data) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
    return (crc ^ 0xffffffff) >>> 0;
}

const key = JSON.parse(readFileSync(keyFile));
const identity = { email: key.client_email, key: key.private_key, keyId: key.private_key_id, scopes: ['https://www.googleapis.com/auth/cloud-platform'] };

// The library asks Google for a token; this sends it to the stand-in with what it has to say.
function byTokenEndpoint() {
    const transporter = new Gaxios();
    transporter.interceptors.request.add({
        resolved: async config => {
            if (/^https:\/\/(oauth2|www)\.googleapis\.com\//.test(String(config.url))) config.url = key.token_uri;
            return config;
        },
    });
    return new JWT({ ...identity, transporter });
}

const options = authClient => ({ fallback: true, protocol: 'http', apiEndpoint: '127.0.0.1', port: Number(port), authClient, projectId: project });

async function refused(promise, code, text) {
    await assert.rejects(promise, error => {
        assert.equal(error.code, code, error.stack);
        assert.match(error.message, text);
        return true;
    });
}

async function keys() {
    const client = new KeyManagementServiceClient(options(new SelfSigned(identity)));
    const [ring] = await client.getKeyRing({ name: keyName.replace(/\/cryptoKeys.*/, '') });
    const [key] = await client.createCryptoKey({ parent: ring.name, cryptoKeyId: 'k1', cryptoKey: { purpose: 'ENCRYPT_DECRYPT' } });
    assert.equal(key.purpose, 'ENCRYPT_DECRYPT');
    const plaintext = Buffer.from('a data key'), additionalAuthenticatedData = Buffer.from('task=1');
    const [sealed] = await client.encrypt({
        name: key.name, plaintext, plaintextCrc32c: { value: crc32c(plaintext) }, additionalAuthenticatedData,
    });
    assert.equal(sealed.verifiedPlaintextCrc32c, true);
    assert.equal(Number(sealed.ciphertextCrc32c.value), crc32c(sealed.ciphertext));
    const [opened] = await client.decrypt({ name: key.name, ciphertext: sealed.ciphertext, additionalAuthenticatedData });
    assert.deepEqual(Buffer.from(opened.plaintext), plaintext);
    assert.equal(Number(opened.plaintextCrc32c.value), crc32c(plaintext));
    await refused(client.decrypt({ name: key.name, ciphertext: sealed.ciphertext }), 400, /Decryption failed/);
    await refused(client.decrypt({ name: keyName, ciphertext: sealed.ciphertext, additionalAuthenticatedData }), 400, /Decryption failed/);
    await refused(client.encrypt({ name: key.name, plaintext, plaintextCrc32c: { value: 1 } }), 400, /checksum/);
    await refused(client.getCryptoKey({ name: `${ring.name}/cryptoKeys/none` }), 404, /not found/);
    for (const id of ['k2', 'k3']) await client.createCryptoKey({ parent: ring.name, cryptoKeyId: id, cryptoKey: { purpose: 'ENCRYPT_DECRYPT' } });
    const [all] = await client.listCryptoKeys({ parent: ring.name });
    assert.deepEqual(all.map(k => k.name.split('/').pop()), [keyName.split('/').pop(), 'k1', 'k2', 'k3'].sort());
}

async function secrets() {
    const client = new SecretManagerServiceClient(options(new Compute()));
    const name = `projects/${project}/secrets/${secret}`;
    const [latest] = await client.accessSecretVersion({ name: `${name}/versions/latest` });
    assert.equal(Number(latest.payload.dataCrc32c), crc32c(latest.payload.data));
    const [made] = await client.createSecret({ parent: `projects/${project}`, secretId: 'from-node', secret: { replication: { automatic: {} } } });
    for (const text of ['one', 'two', 'three']) await client.addSecretVersion({ parent: made.name, payload: { data: Buffer.from(text) } });
    const [second] = await client.accessSecretVersion({ name: `${made.name}/versions/2` });
    assert.equal(second.payload.data.toString(), 'two');
    const [versions] = await client.listSecretVersions({ parent: made.name });
    assert.equal(versions.length, 3);
    await client.deleteSecret({ name: made.name });
    await refused(client.getSecret({ name: made.name }), 404, /not found/);
}

async function jobs() {
    const auth = new SelfSigned(identity);
    const client = new JobsClient(options(auth)), executions = new ExecutionsClient(options(auth)), tasks = new TasksClient(options(auth));
    const parent = jobName.replace(/\/jobs.*/, '');
    const wish = {
        parent, jobId: 'from-node',
        job: { template: { template: { containers: [{ image: 'i', env: [{ name: 'KEPT', value: '1' }] }], maxRetries: 0, timeout: { seconds: 60 } } } },
    };
    const [creation] = await client.createJob(wish);
    const [job] = await creation.promise();
    assert.equal(job.name, `${parent}/jobs/from-node`);
    assert.equal(job.template.template.containers[0].image, 'i');
    await refused(client.createJob(wish), 409, /already exists/);
    const run = env => client.runJob({ name: job.name, overrides: { containerOverrides: [{ env }] } });

    const [good] = await run([{ name: 'MARK', value: 'a' }]);
    const [done] = await good.promise();
    assert.equal(done.succeededCount, 1);
    assert.deepEqual(done.template.containers[0].env.map(e => `${e.name}=${e.value}`), ['KEPT=1', 'MARK=a']);

    const [bad] = await run([{ name: 'EXIT', value: '7' }]);
    const [failed] = await bad.promise();
    assert.equal(failed.failedCount, 1);
    const [list] = await tasks.listTasks({ parent: failed.name });
    assert.equal(list[0].lastAttemptResult.exitCode, 7);

    const [long] = await run([{ name: 'SLEEP', value: '600' }]);
    const name = long.metadata.name;
    await executions.cancelExecution({ name });
    await long.promise();
    const [cancelled] = await executions.getExecution({ name });
    assert.equal(cancelled.cancelledCount, 1);
    assert.equal(cancelled.conditions.find(c => c.type === 'Completed').executionReason, 'CANCELLED');

    const [all] = await executions.listExecutions({ parent: job.name });
    assert.equal(all.length, 3);
    assert.equal(all[0].name, name); // the newest first
    const [removal] = await client.deleteJob({ name: job.name });
    await removal.promise();
    await refused(client.getJob({ name: job.name }), 404, /not found/);
}

async function objects() {
    const storage = new Storage({ apiEndpoint: base, projectId: project, authClient: byTokenEndpoint(), useAuthWithCustomEndpoint: true, retryOptions: { autoRetry: false } });
    const bucket = storage.bucket(bucketName);
    const small = Buffer.from('hello world\n'), big = Buffer.alloc(3 * 1024 * 1024 + 17, 'abcdefghijk');

    await bucket.file('dir/small é.txt').save(small, { resumable: false, contentType: 'text/plain', preconditionOpts: { ifGenerationMatch: 0 } });
    await refused(bucket.file('dir/small é.txt').save(small, { resumable: false, preconditionOpts: { ifGenerationMatch: 0 } }), 412, /pre-conditions/);
    // Only when it is begun separately does the library send its token to an endpoint that is not Google's.
    const begin = async name => ({ uri: (await bucket.file(name).createResumableUpload())[0], resumable: true, validation: 'crc32c' });
    await bucket.file('dir/big').save(big, { ...await begin('dir/big'), chunkSize: 1024 * 1024 });
    await pipeline(Readable.from([big.subarray(0, 1000000), big.subarray(1000000)]), bucket.file('dir/one-go').createWriteStream(await begin('dir/one-go')));

    const [meta] = await bucket.file('dir/small é.txt').getMetadata();
    assert.equal(meta.crc32c, '8P9ykg==');
    assert.equal(meta.contentType, 'text/plain');
    for (const name of ['dir/big', 'dir/one-go']) {
        const [content] = await bucket.file(name).download({ validation: 'crc32c' });
        assert.ok(content.equals(big), name);
    }
    const [part] = await bucket.file('dir/big').download({ start: 1000, end: 1999, validation: false });
    assert.ok(part.equals(big.subarray(1000, 2000)));

    const [joined] = await bucket.combine(['dir/small é.txt', 'dir/big'], 'joined');
    const [content] = await joined.download();
    assert.ok(content.equals(Buffer.concat([small, big])));

    const [files] = await bucket.getFiles({ prefix: 'dir/' });
    assert.deepEqual(files.map(f => f.name), ['dir/big', 'dir/one-go', 'dir/small é.txt']);
    const [later] = await bucket.getFiles({ startOffset: 'dir/o' });
    assert.deepEqual(later.map(f => f.name), ['dir/one-go', 'dir/small é.txt', 'joined']);
    const [top, , response] = await bucket.getFiles({ delimiter: '/', autoPaginate: false });
    assert.deepEqual([top.map(f => f.name), response.prefixes], [['joined'], ['dir/']]);

    await bucket.setMetadata({ lifecycle: { rule: [{ action: { type: 'Delete' }, condition: { age: 30 } }] } });
    const [bucketMeta] = await bucket.getMetadata();
    assert.equal(bucketMeta.lifecycle.rule[0].condition.age, 30);
    for (const file of [...files, joined]) await file.delete();
    assert.deepEqual(await bucket.file('dir/big').exists(), [false]);
}

async function builds() {
    const client = new CloudBuildClient(options(new SelfSigned(identity)));
    const build = {
        source: { storageSource: { bucket: bucketName, object: 'builds/a.tgz', generation: 7 } },
        steps: [{ name: 'gcr.io/cloud-builders/docker', args: ['build', '.'], env: ['DOCKER_BUILDKIT=1'] }],
        timeout: { seconds: 3600 }, tags: ['client'], options: { logging: 'CLOUD_LOGGING_ONLY' },
        serviceAccount: `projects/${project}/serviceAccounts/${key.client_email}`,
    };
    const [operation] = await client.createBuild({ projectId: project, build });
    const { id } = operation.metadata.build;
    let found;
    do [found] = await client.getBuild({ projectId: project, id }); while (found.status === 'WORKING');
    assert.equal(found.status, 'SUCCESS');
    assert.equal(Number(found.source.storageSource.generation), 7);
    const [list] = await client.listBuilds({ projectId: project, filter: 'tags="client"' });
    assert.deepEqual(list.map(one => one.id), [id]);
    await refused(client.createBuild({ projectId: project, build: { ...build, steps: [] } }), 400, /no build steps/);
    await refused(client.createBuild({ projectId: project, build: { ...build, options: {} } }), 400, /logging options/);
    await refused(client.getBuild({ projectId: project, id: 'none' }), 404, /not/i);
}

async function projects() {
    const billing = new CloudBillingClient(options(new SelfSigned(identity)));
    const [info] = await billing.getProjectBillingInfo({ name: `projects/${project}` });
    assert.equal(info.billingEnabled, true);
    const client = new ProjectsClient(options(new SelfSigned(identity)));
    const [found] = await client.searchProjects({});
    assert.deepEqual(found.map(one => one.projectId), [project]);
    await refused(client.createProject({ project: { projectId: project } }), 409, /already exists/);
    await refused(client.createProject({ project: { projectId: 'NO' } }), 400, /invalid/);
}

async function firewalls() {
    const auth = options(new Compute()), client = new FirewallsClient(auth), operations = new GlobalOperationsClient(auth);
    const network = 'default', region = jobName.split('/')[3];
    const [found] = await new NetworksClient(auth).get({ project, network });
    assert.equal(found.name, network);
    const [subnetwork] = await new SubnetworksClient(auth).get({ project, region, subnetwork: network });
    assert.ok(subnetwork.network.endsWith(`/networks/${network}`));
    await refused(new NetworksClient(auth).get({ project, network: 'none' }), 404, /was not found/);

    const wait = async promise => {
        const [begun] = await promise;
        const operation = begun.latestResponse.name;
        let done;
        do [done] = await operations.wait({ project, operation }); while (done.status !== 'DONE');
        assert.deepEqual((await operations.get({ project, operation }))[0].status, 'DONE');
    };
    const rule = {
        name: 'from-node', network: `projects/${project}/global/networks/${network}`, direction: 'EGRESS', priority: 900,
        denied: [{ IPProtocol: 'all' }], destinationRanges: ['0.0.0.0/0'], targetTags: ['a-tag'],
    };
    await wait(client.insert({ project, firewallResource: rule }));
    await refused(client.insert({ project, firewallResource: rule }), 409, /already exists/);
    await refused(client.insert({ project, firewallResource: { ...rule, name: 'NO' } }), 400, /resource\.name/);
    await refused(client.insert({ project, firewallResource: { ...rule, name: 'both', allowed: rule.denied } }), 400, /allowed/);
    const firewall = rule.name;
    const [made] = await client.get({ project, firewall });
    assert.deepEqual([made.direction, made.priority, made.denied[0].IPProtocol], ['EGRESS', 900, 'all']);
    await wait(client.patch({ project, firewall, firewallResource: { description: 'changed' } }));
    const [all] = await client.list({ project });
    assert.deepEqual(all.map(one => [one.name, one.description]), [[firewall, 'changed']]);
    await wait(client.delete({ project, firewall }));
    await refused(client.get({ project, firewall }), 404, /was not found/);
}

for (const part of [keys, secrets, jobs, objects, builds, projects, firewalls]) {
    await part();
    console.log(`satisfied: ${part.name}`);
}
