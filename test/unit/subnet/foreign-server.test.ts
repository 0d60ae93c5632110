/** A server that speaks gRPC, and is no etcd. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, ServerCredentials, type MethodDefinition, type sendUnaryData } from '@grpc/grpc-js';
import { FlannelError } from '../../../src/errors.js';
import { silentLogger } from '../../../src/log.js';
import { createEtcdSubnetManager } from '../../../src/subnet/etcd/etcd-subnet-manager.js';

const same = (bytes: Buffer): Buffer => bytes;

const RANGE: MethodDefinition<Buffer, Buffer> = {
  path: '/etcdserverpb.KV/Range',
  requestStream: false,
  responseStream: false,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
};

let server: Server;
let port: number;
let answer: Buffer;

before(async () => {
  server = new Server();
  server.addService({ range: RANGE }, { range: (_call: unknown, done: sendUnaryData<Buffer>) => done(null, answer) });
  port = await new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
});
after(() => server.forceShutdown());

const answers: readonly (readonly [what: string, bytes: Buffer, says: RegExp])[] = [
  ['nothing at all', Buffer.alloc(0), /what answers there is no etcd/],
  ['what cannot be decoded', Buffer.from('0a7f01', 'hex'), /^etcd at http:/],
];
for (const [what, bytes, says] of answers) {
  test(`that answers ${what} is a store that fails, and may be repaired`, async () => {
    answer = bytes;
    const manager = createEtcdSubnetManager({
      endpoints: [`http://127.0.0.1:${port}`],
      prefix: '/coreos.com/network',
      backendTypes: ['udp'],
      logger: silentLogger,
    });
    try {
      await assert.rejects(manager.networkConfig(new AbortController().signal), (error) => {
        assert.ok(error instanceof FlannelError, String(error));
        assert.equal(error.code, 'STORE');
        assert.match(error.message, says);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      });
    } finally {
      manager.close();
    }
  });
}
