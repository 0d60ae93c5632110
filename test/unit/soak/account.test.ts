import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { accountFor, IN_HAND, type Measures, type NodeMeasures } from '../../soak/account.js';
import { Ledger, parseLastWords } from '../../soak/ledger.js';
import { growth, parseDevices, parseSnmp, sumOf, sumOfDevices, type Tally } from '../../soak/tally.js';

const ZEROS = {
  ...Object.fromEntries(
    ['InHdrErrors', 'InAddrErrors', 'InUnknownProtos', 'InDiscards', 'OutNoRoutes', 'FragFails']
      .concat(['FragOKs', 'FragCreates', 'ReasmReqds', 'ReasmOKs'])
      .map((name) => [`Ip.${name}`, 0]),
  ),
  ...Object.fromEntries(
    ['InDatagrams', 'NoPorts', 'InErrors', 'RcvbufErrors', 'MemErrors'].map((name) => [`Udp.${name}`, 0]),
  ),
};

/** Of 1,000 datagrams that one pod sends to another, 7 find no room in flannel0, 3 are cut and 5 find none in the socket. */
function measures(change: { sender?: Partial<NodeMeasures>; receiver?: Tally } = {}): Measures {
  const pod = {
    ...ZEROS,
    'Tcp.OutSegs': 0,
    'Tcp.RetransSegs': 0,
    'Tcp.InSegs': 0,
    'Icmp.OutMsgs': 0,
    'Icmp.InMsgs': 0,
    'eth0.txDropped': 0,
  };
  const host = { ...ZEROS, 'nft.own': 0, 'eth0.txDropped': 0, 'cni0.txDropped': 0, 'flannel0.txDropped': 0 };
  const nothing = { packets: 0, bytes: 0, dropped: {} };
  const sender: NodeMeasures = {
    name: 'node1',
    host: { ...host, 'flannel0.rxPackets': 0, 'flannel0.txPackets': 993, 'flannel0.txDropped': 7 },
    pods: [{ ...pod, 'eth0.txPackets': 1000, 'Ip.InReceives': 0 }],
    agent: { encap: { packets: 990, bytes: 0, dropped: { 'send-failed': 3 } }, decap: nothing },
    interruptions: 0,
    ...change.sender,
  };
  const receiver: NodeMeasures = {
    name: 'node2',
    host: {
      ...host,
      ...{ 'flannel0.txPackets': 0, 'flannel0.rxPackets': 982 },
      ...{ 'Udp.InDatagrams': 982, 'Udp.InErrors': 5, 'Udp.RcvbufErrors': 5 },
      ...change.receiver,
    },
    pods: [{ ...pod, 'eth0.txPackets': 0, 'Ip.InReceives': 982 }],
    agent: { encap: nothing, decap: { packets: 982, bytes: 0, dropped: {} } },
    interruptions: 0,
  };
  return {
    nodes: [sender, receiver],
    underlay: { 'nft.sent_node1': 990, 'nft.sent_node2': 0, 'nft.sent_stranger': 0, 'nft.cut': 3, 'br0.txDropped': 0 },
    programs: { sent: 1000, received: 982 },
    unpluggedDrops: {},
  };
}

describe('the account of a soak', () => {
  test('adds up when every counter agrees with the next', () => {
    const { missing, sent, fate, legs } = accountFor(measures());
    assert.equal(missing, 0, JSON.stringify(legs));
    assert.deepEqual(
      fate.map(({ packets }) => packets).sort((a, b) => a - b),
      [3, 3, 5, 7, 982],
    );
    assert.equal(sent[0].packets, 1000);
  });

  test('says on which leg packets are missing', () => {
    const { missing, legs } = accountFor(measures({ receiver: { 'flannel0.rxPackets': 980 } }));
    assert.notEqual(missing, 0);
    const lacking = legs.filter((leg) => leg.missing !== 0).map(({ name, node }) => `${name} ${node}`);
    assert.deepEqual(lacking, ['hosts node2', 'decap node2', 'own count in node2']);
  });

  test('finds packets missing though others came from nowhere', () => {
    const { missing } = accountFor(measures({ receiver: { 'Udp.InDatagrams': 984, 'flannel0.rxPackets': 984 } }));
    assert.notEqual(missing, 0);
  });

  test('takes what a killed agent cannot have counted for what it had in its hands, within a batch', () => {
    const agent = { ...measures().nodes[0].agent, encap: { packets: 900, bytes: 0, dropped: {} } };
    const { missing, fate } = accountFor(measures({ sender: { agent, interruptions: 1 } }));
    assert.equal(missing, 0);
    assert.equal(fate.find(({ what }) => what === IN_HAND)?.packets, 3);
    assert.notEqual(accountFor(measures({ sender: { agent } })).missing, 0, 'nobody was killed');
    const host = { ...measures().nodes[0].host, 'flannel0.txPackets': 1200 };
    assert.notEqual(
      accountFor(measures({ sender: { agent, host, interruptions: 1 } })).missing,
      0,
      'more than a batch',
    );
  });
});

describe('the ledger of an agent', () => {
  const counts = (packets: number, dropped: Record<string, number> = {}) => ({
    encap: { packets, bytes: 0, dropped },
    decap: { packets: 0, bytes: 0, dropped: {} },
  });

  test('adds up lives, each as it was told last, from the opening on', () => {
    const ledger = new Ledger();
    ledger.seen(1, counts(10, { 'no-lease': 2 }));
    ledger.open();
    ledger.seen(1, counts(20, { 'no-lease': 2 }));
    ledger.ended(
      1,
      'INFO packets carried in this run encap=25 decap=4 dropped="encap no-lease 3, decap truncated 1"\n',
    );
    ledger.seen(1, counts(22));
    ledger.seen(2, counts(5));
    ledger.seen(2, counts(4));
    const { encap, decap } = ledger.total();
    assert.deepEqual([encap.packets, encap.dropped], [20, { 'no-lease': 1 }]);
    assert.deepEqual([decap.packets, decap.dropped], [4, { truncated: 1 }]);
  });

  test('does not take silence for nothing', () => {
    assert.throws(() => new Ledger().ended(1, 'stopped'), /without telling its packets/);
    assert.deepEqual(parseLastWords('packets carried in this run encap=1 decap=2\n')?.decap.packets, 2);
  });
});

test('the counters of the kernel are read by their names', () => {
  const snmp = 'Ip: InReceives InHdrErrors\nIp: 12 0\nUdp: InDatagrams NoPorts\nUdp: 7 1\n';
  assert.deepEqual(parseSnmp(snmp), {
    'Ip.InReceives': 12,
    'Ip.InHdrErrors': 0,
    'Udp.InDatagrams': 7,
    'Udp.NoPorts': 1,
  });
  const devices = parseDevices(
    'Inter-|   Receive |  Transmit\n face |bytes |bytes\n' +
      '  eth0: 100 10 0 1 0 0 0 0 200 20 0 2 0 0 0 0\n    lo: 0 0 0 0 0 0 0 0 0 0 0 4 0 0 0 0\n',
  );
  assert.deepEqual(
    [devices['eth0.rxPackets'], devices['eth0.rxDropped'], devices['eth0.txPackets'], devices['eth0.txDropped']],
    [10, 1, 20, 2],
  );
  assert.equal(sumOfDevices(devices, 'txDropped'), 6);
  assert.equal(sumOfDevices(devices, 'txDropped', ['eth0']), 4);
  assert.deepEqual(growth({ a: 1 }, { a: 3, b: 4 }), { a: 2, b: 4 });
  assert.throws(() => sumOf(devices, 'eth1.txPackets'), /no counter eth1/);
});
