import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { PacketQuestion } from '../../../src/backend/explain.js';
import { Explainer } from '../../../src/backend/udp/explain.js';
import { LeaseForwarding } from '../../../src/backend/udp/lease-forwarding.js';
import { DropReason } from '../../../src/dataplane/drop-reasons.js';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { silentLogger } from '../../../src/log.js';
import { prefixContains } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { ip, prefix } from '../../support/addresses.js';

const NETWORK = prefix('10.5.0.0/16');
const HERE = '192.0.2.1';

function lease(subnet: string, publicIp: string): Lease {
  return { subnet: prefix(subnet), publicIp: ip(publicIp), publicIpv6: null, backendType: '', reserved: false };
}

const OWN = lease('10.5.1.0/24', HERE);
const LEASES = [
  OWN,
  lease('10.5.2.0/24', '192.0.2.2'),
  lease('10.5.16.0/20', '192.0.2.3'),
  lease('10.5.17.64/26', '192.0.2.4'),
];

function explainer(leases: readonly Lease[], publicIp = HERE): Explainer {
  const table = ForwardingTable.create({ network: NETWORK, subnetLength: 24, workers: 1 });
  const options = { table, network: NETWORK, subnetLength: 24, port: 8285, backendType: 'udp' };
  const forwarding = new LeaseForwarding({
    ...options,
    ownSubnet: OWN.subnet,
    ownUnderlayAddresses: [ip(HERE)],
    logger: silentLogger,
  });
  forwarding.replaceAll(leases);
  table.setOwnAddresses([ip(HERE)]);
  return new Explainer({ ...options, sourceCheck: 'strict', publicIp: ip(publicIp) });
}

const question = (of: Partial<PacketQuestion>): PacketQuestion => ({
  source: ip('10.5.1.2'),
  destination: ip('10.5.2.3'),
  protocol: 1,
  ttl: 64,
  ...of,
});
const dropped = (reason: DropReason) => ({ verdict: 'dropped' as const, reason });

describe('a packet out of the overlay device', () => {
  test('is forwarded, and let in at the next hop', () => {
    const { direction, here, there, destinationEntry } = explainer(LEASES).explain(question({}), LEASES);
    const nextHop = { address: ip('192.0.2.2'), port: 8285 };
    assert.deepEqual([direction, here, there], ['encap', { verdict: 'forwarded', nextHop }, { verdict: 'delivered' }]);
    assert.deepEqual(destinationEntry, { kind: 'leased', nextHop });
  });

  test('meets there what the leases say of this node and of its source', () => {
    const at = (change: Partial<PacketQuestion>, leases: readonly Lease[] = LEASES) =>
      explainer(leases).explain(question(change), leases).there;
    assert.deepEqual(at({ source: ip('10.5.17.70') }), dropped(DropReason.SpoofedSource));
    assert.deepEqual(at({ source: ip('10.5.2.9') }), dropped(DropReason.SpoofedSource));
    assert.deepEqual(at({ source: ip(HERE) }), { verdict: 'delivered' });
    assert.deepEqual(at({ source: ip('127.0.0.1') }), dropped(DropReason.SpoofedSource));
    assert.deepEqual(at({ ttl: 2 }), dropped(DropReason.TtlExceeded));
    assert.deepEqual(at({}, LEASES.slice(1)), dropped(DropReason.UnknownSender));
    assert.equal(at({ ttl: 1 }), undefined);
    assert.equal(at({ destination: ip('10.5.99.1') }), undefined);
  });

  test('goes where the longest lease says, for any destination', () => {
    const target = explainer(LEASES);
    fc.assert(
      fc.property(fc.nat(0xffff), fc.integer({ min: 2, max: 255 }), (low, ttl) => {
        const destination = NETWORK.address + low;
        const { here } = target.explain(question({ destination, ttl }), LEASES);
        const covering = LEASES.filter(({ subnet }) => prefixContains(subnet, destination));
        const [longest] = covering.sort((a, b) => b.subnet.length - a.subnet.length);
        if (longest === undefined) assert.deepEqual(here, dropped(DropReason.NoLease));
        else if (longest === OWN) assert.deepEqual(here, dropped(DropReason.OwnSubnet));
        else assert.deepEqual(here, { verdict: 'forwarded', nextHop: { address: longest.publicIp, port: 8285 } });
      }),
    );
  });
});

describe('a packet that arrives', () => {
  const from = (sender: string, change: Partial<PacketQuestion> = {}) =>
    explainer(LEASES).explain(
      question({ source: ip('10.5.2.3'), destination: ip('10.5.1.2'), sender: ip(sender), ...change }),
      LEASES,
    );

  test('is let in from the owner of its source only', () => {
    assert.deepEqual(from('192.0.2.2').here, { verdict: 'delivered' });
    assert.equal(from('192.0.2.2').senderIsMember, true);
    assert.deepEqual(from('192.0.2.3').here, dropped(DropReason.SpoofedSource));
    assert.deepEqual(from('192.0.2.77').here, dropped(DropReason.UnknownSender));
    assert.equal(from('192.0.2.77').senderIsMember, false);
  });

  test('goes to the own subnet only, and with a TTL', () => {
    assert.deepEqual(from('192.0.2.2', { destination: ip('10.5.2.3') }).here, dropped(DropReason.ForeignDestination));
    assert.deepEqual(from('192.0.2.2', { ttl: 1 }).here, dropped(DropReason.TtlExceeded));
  });
});
