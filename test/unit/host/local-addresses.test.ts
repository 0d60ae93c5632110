import assert from 'node:assert/strict';
import { test } from 'node:test';
import { localAddresses, parseFibTrie } from '../../../src/host/local-addresses.js';
import { formatIpv4 } from '../../../src/packet/address.js';

test('local addresses are picked out of the routing table, each once, and networks are not', () => {
  const text = `Main:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.5.34.0/24 2 0 2
        |-- 10.5.34.0
           /24 link UNICAST
           /32 host LOCAL
        |-- 10.5.34.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 127.0.0.1
           /32 host LOCAL
`;
  assert.deepEqual(parseFibTrie(text).map(formatIpv4), ['10.5.34.0', '127.0.0.1']);
});

test('this machine has at least its loopback address', async () => {
  assert.ok((await localAddresses()).map(formatIpv4).includes('127.0.0.1'));
});
