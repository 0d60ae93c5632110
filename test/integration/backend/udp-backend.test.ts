import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { SourceCheck } from '../../../src/backend/backend.js';
import { until } from '../../harness/until.js';
import type { Forgery } from './forge.js';
import { forge, NODE1, NODE2, Overlay, ping, Receiver, StaticNode, STRANGER } from './overlay.js';

/** A node of the network that the tests only pretend to have. */
const NODE3 = { subnet: '10.5.3.0/24', publicIp: '192.168.64.3' };

describe('two nodes, each with a pod', () => {
  let overlay: Overlay;
  let node1: StaticNode;
  let node2: StaticNode;
  before(async () => {
    overlay = await Overlay.build('ub');
    node1 = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    node2 = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
  });
  after(() => overlay.remove());

  test('the device has the name, address, MTU and route that flannel gives it', async () => {
    assert.equal(node1.device, 'flannel0');
    assert.equal(node1.mtuBytes, 1472);
    assert.match(await overlay.node1.ip('-4 address show dev flannel0'), /mtu 1472[^]*inet 10\.5\.1\.0\/32/);
    assert.match(await overlay.node1.ip('route show 10.5.0.0/16'), /dev flannel0/);
  });

  test('its queue and the socket hold what arrives while no agent runs', async () => {
    assert.match(await overlay.node1.ip('link show dev flannel0'), / qlen 4000\b/);
    const { stdout } = await overlay.node1.exec('ss', ['-uamn', 'sport = :8285']);
    // The kernel counts its own share besides: twice what it was asked for. socket(7)
    assert.match(stdout, new RegExp(`\\brb${2 * 4 * 1024 * 1024}\\b`));
  });

  const pairs: [string, () => Promise<string>][] = [
    ['pod to pod', () => ping(overlay.pod1, ['-c', '20', '10.5.2.6'])],
    ['pod to pod, the other way', () => ping(overlay.pod2, ['-c', '20', '10.5.1.6'])],
    ['host to pod', () => ping(overlay.node1, ['-c', '20', '10.5.2.6'])],
    ["pod to the other host's overlay address", () => ping(overlay.pod1, ['-c', '20', '10.5.2.0'])],
    ["from the host's own external address", () => ping(overlay.node1, ['-c', '5', '-I', '192.168.64.1', '10.5.2.6'])],
  ];
  for (const [name, run] of pairs) {
    test(`${name}: every ping is answered`, async () => {
      assert.match(await run(), / 0% packet loss/);
    });
  }

  test('packets and bytes are counted in both directions', async () => {
    const before = await node1.status();
    await ping(overlay.pod1, ['-c', '3', '-s', '100', '10.5.2.6']);
    const now = await node1.status();
    assert.equal(now.encap.packets - before.encap.packets, 3);
    assert.equal(now.encap.bytes - before.encap.bytes, 3 * 128);
    assert.equal(now.decap.packets - before.decap.packets, 3);
    assert.equal(now.table.leases, 1);
    assert.equal(now.table.nextHops, 1);
    assert.equal(now.port, 8285);
    assert.ok(now.workers.length >= 2);
  });

  test('a ping into an unleased subnet is told so at once, from a pod and from the host', async () => {
    for (const from of [overlay.pod1, overlay.node1]) {
      assert.match(await ping(from, ['-c', '1', '10.5.77.1']), /From 10\.5\.1\.0 .*Destination Net Unreachable/);
    }
    assert.match(
      await ping(overlay.node1, ['-c', '1', '-I', '192.168.64.1', '10.5.77.1']),
      /From 10\.5\.1\.0 .*Destination Net Unreachable/,
    );
    const status = await node1.status();
    assert.equal(status.encap.dropped['no-lease'], 3);
    assert.ok(status.icmpErrorsSent >= 3);
  });

  test('a TTL that runs out is told by the hop where it did, on the way out and on the way in', async () => {
    assert.match(
      await ping(overlay.pod1, ['-c', '1', '-t', '2', '10.5.2.6']),
      /From 10\.5\.1\.0 .*Time to live exceeded/,
    );
    assert.match(
      await ping(overlay.pod1, ['-c', '1', '-t', '3', '10.5.2.6']),
      /From 10\.5\.2\.0 .*Time to live exceeded/,
    );
    assert.match(
      await ping(overlay.node1, ['-c', '1', '-t', '1', '10.5.2.6']),
      /From 10\.5\.1\.0 .*Time to live exceeded/,
    );
    assert.equal((await node1.status()).encap.dropped['ttl-exceeded'], 2);
    assert.equal((await node2.status()).decap.dropped['ttl-exceeded'], 1);
  });

  test('traceroute from a pod shows every hop', async () => {
    const { stdout } = await overlay.pod1.exec('traceroute', ['-n', '-q', '1', '-N', '1', '-w', '2', '10.5.2.6']);
    // The kernel of node2 answers for cni0 with the address of the device that the packet came by.
    const hops = [...stdout.matchAll(/^ *\d+ +(\S+)/gm)].map((match) => match[1]);
    assert.deepEqual(hops, ['10.5.1.1', '10.5.1.0', '10.5.2.0', '10.5.2.0', '10.5.2.6']);
  });

  test('1472 bytes pass with DF, one more does not', async () => {
    assert.match(await ping(overlay.pod1, ['-c', '2', '-M', 'do', '-s', '1444', '10.5.2.6']), / 0% packet loss/);
    assert.match(await ping(overlay.pod1, ['-c', '1', '-M', 'do', '-s', '1445', '10.5.2.6']), /Frag needed|too long/);
  });

  test('fragments of a pod arrive', async () => {
    assert.match(await ping(overlay.pod1, ['-c', '3', '-s', '8000', '10.5.2.6']), / 0% packet loss/);
  });

  test('ICMP errors are limited, and those held back are counted', async () => {
    const before = await node1.status();
    await ping(overlay.pod1, ['-c', '30', '-W', '1', '10.5.78.1']);
    let [sent, limited] = [0, 0];
    await until('every one of them is counted', async () => {
      const now = await node1.status();
      sent = now.icmpErrorsSent - before.icmpErrorsSent;
      limited = now.icmpErrorsRateLimited - before.icmpErrorsRateLimited;
      return sent + limited >= 30;
    });
    assert.equal(sent + limited, 30);
    assert.ok(sent < 30, `${sent} errors`);
  });

  test('a lease that goes is forgotten, and one that comes is used', async () => {
    await node1.setLeases([NODE1]);
    assert.match(await ping(overlay.pod1, ['-c', '1', '10.5.2.6']), /100% packet loss/);
    assert.match(await ping(overlay.pod2, ['-c', '1', '10.5.1.6']), /100% packet loss/);
    await node1.setLeases([NODE1, NODE2]);
    assert.match(await ping(overlay.pod1, ['-c', '3', '10.5.2.6']), / 0% packet loss/);
  });
});

describe('an underlay that is narrower than it was', () => {
  let overlay: Overlay;
  let node1: StaticNode;
  before(async () => {
    overlay = await Overlay.build('um');
    node1 = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    await overlay.node1.addRoute('192.168.64.2', 'dev eth0 mtu 1400');
  });
  after(() => overlay.remove());

  test('the sender of a packet with DF is told what fits', async () => {
    const output = await ping(overlay.pod1, ['-c', '3', '-M', 'do', '-s', '1444', '10.5.2.6']);
    assert.match(output, /From 10\.5\.1\.0 .*[Ff]rag needed and DF set \(mtu = 1372\)/);
    const fits = await ping(overlay.pod1, ['-c', '3', '-M', 'do', '-s', '1344', '10.5.2.6']);
    assert.match(fits, / 0% packet loss/);
    assert.ok(((await node1.status()).encap.dropped['packet-too-big'] ?? 0) >= 1);
  });

  test('the host itself is told as well', async () => {
    const output = await ping(overlay.node1, ['-c', '3', '-M', 'do', '-s', '1444', '10.5.2.6']);
    assert.match(output, /[Ff]rag needed and DF set \(mtu = 1372\)|message too long, mtu=1372/);
  });

  test('a packet without DF arrives in fragments', async () => {
    assert.match(await ping(overlay.pod2, ['-c', '3', '-M', 'dont', '-s', '1444', '10.5.1.6']), / 0% packet loss/);
  });
});

describe('a router on the way that carries less', () => {
  //     node1 eth0 192.168.64.1 ─ br0 192.168.64.254 [wire] far 192.168.65.254 (MTU 1300) ─ far 192.168.65.2 node2
  const FAR_NODE2 = { subnet: NODE2.subnet, publicIp: '192.168.65.2' };
  let overlay: Overlay;
  let node1: StaticNode;
  before(async () => {
    overlay = await Overlay.build('ur');
    await overlay.node2.connect('far', overlay.wire, 'far', { mtuBytes: 1300 });
    await overlay.wire.setSysctl('net.ipv4.ip_forward', 1);
    await overlay.wire.addAddress('br0', '192.168.64.254/24');
    await overlay.wire.addAddress('far', '192.168.65.254/24');
    await overlay.node2.ip('link set eth0 down');
    await overlay.node2.addAddress('far', '192.168.65.2/24');
    await overlay.node2.addRoute('default', 'via 192.168.65.254');
    await overlay.node1.addRoute('default', 'via 192.168.64.254');
    node1 = await StaticNode.start(overlay.node1, NODE1, [FAR_NODE2]);
    await StaticNode.start(overlay.node2, FAR_NODE2, [NODE1], { interfaceName: 'far' });
  });
  after(() => overlay.remove());

  test('the pod learns what the router told this node', async () => {
    // The first is lost at the router, which tells node1; one that is sent after that is told to the pod.
    await until('the pod is told', async () => {
      const output = await ping(overlay.pod1, ['-c', '4', '-W', '0.5', '-M', 'do', '-s', '1444', '10.5.2.6']);
      return /From 10\.5\.1\.0 .*[Ff]rag needed and DF set \(mtu = 1272\)/.test(output);
    });
    assert.match(await ping(overlay.pod1, ['-c', '3', '-M', 'do', '-s', '1244', '10.5.2.6']), / 0% packet loss/);
    assert.match(await ping(overlay.pod1, ['-c', '3', '-M', 'dont', '-s', '4000', '10.5.2.6']), / 0% packet loss/);
  });

  test('fragments are not put together again by the connection tracking that masquerading needs', async () => {
    const rule = ['POSTROUTING', '-s', '10.5.1.0/24', '!', '-d', '10.5.0.0/16', '-j', 'MASQUERADE'];
    await overlay.node1.exec('iptables', ['-t', 'nat', '-A', ...rule]);
    const before = (await node1.status()).encap;
    assert.match(await ping(overlay.pod1, ['-c', '3', '-M', 'dont', '-s', '1444', '10.5.2.6']), / 0% packet loss/);
    const now = (await node1.status()).encap;
    assert.equal(now.packets - before.packets, 6);
    assert.equal((now.dropped['packet-too-big'] ?? 0) - (before.dropped['packet-too-big'] ?? 0), 3);
  });
});

describe('forged datagrams', () => {
  let overlay: Overlay;
  before(async () => {
    overlay = await Overlay.build('uf');
  });
  after(() => overlay.remove());

  const fromStranger = { outerSource: STRANGER, outerDestination: '192.168.64.1', outerPort: 8285, innerPort: 9999 };
  const fromNode2 = { ...fromStranger, outerSource: '192.168.64.2' };
  const attacks: [Forgery, readonly SourceCheck[]][] = [
    [{ ...fromStranger, innerSource: '10.5.2.6', innerDestination: '10.5.1.6', payload: 'stranger' }, ['off']],
    [{ ...fromStranger, innerSource: '10.5.2.6', innerDestination: '10.5.1.1', payload: 'stranger-host' }, ['off']],
    [
      { ...fromNode2, innerSource: '10.5.3.6', innerDestination: '10.5.1.6', payload: 'foreign-lease' },
      ['outer', 'off'],
    ],
    [{ ...fromNode2, innerSource: '10.5.77.6', innerDestination: '10.5.1.6', payload: 'no-lease' }, ['outer', 'off']],
    [
      { ...fromNode2, innerSource: '203.0.113.5', innerDestination: '10.5.1.6', payload: 'client' },
      ['strict', 'outer', 'off'],
    ],
    [
      { ...fromNode2, innerSource: '192.168.64.2', innerDestination: '10.5.1.6', payload: 'peer-host' },
      ['strict', 'outer', 'off'],
    ],
    [{ ...fromNode2, innerSource: '10.5.2.6', innerDestination: '192.168.64.1', payload: 'to-host' }, []],
    [{ ...fromNode2, innerSource: '10.5.2.6', innerDestination: '10.5.3.1', payload: 'to-other-subnet' }, []],
    [{ ...fromNode2, innerSource: '10.5.1.9', innerDestination: '10.5.1.6', payload: 'own-subnet' }, ['outer', 'off']],
    [
      { ...fromNode2, innerSource: '10.5.2.6', innerDestination: '10.5.1.6', payload: 'honest' },
      ['strict', 'outer', 'off'],
    ],
  ];

  for (const mode of ['strict', 'outer', 'off'] as const) {
    test(`--source-check=${mode} lets in what it should and nothing else`, async () => {
      const node1 = await StaticNode.start(overlay.node1, NODE1, [NODE2, NODE3], { sourceCheck: mode });
      const pod = await Receiver.start(overlay.pod1, 9999);
      const host = await Receiver.start(overlay.node1, 9999);
      try {
        await forge(
          overlay.stranger,
          attacks.map(([forgery]) => forgery),
        );
        await pod.until('honest');
        const arrived = [...pod.payloads, ...host.payloads].filter((line) => line !== 'ready').sort();
        const allowed = attacks.filter(([, modes]) => modes.includes(mode)).map(([{ payload }]) => payload);
        assert.deepEqual(arrived, allowed.sort());
        const { decap } = await node1.status();
        const count = Object.values(decap.dropped).reduce((sum, value) => sum + value, 0);
        assert.equal(count, attacks.length - allowed.length);
      } finally {
        await Promise.all([pod.stop(), host.stop(), node1.stop()]);
      }
    });
  }

  test("inner sources that are nobody else's are refused from a member too", async () => {
    const node1 = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    const pod = await Receiver.start(overlay.pod1, 9999);
    try {
      const sources = ['127.0.0.1', '169.254.1.1', '224.0.0.5', '192.168.64.1', '10.5.1.1', '10.5.1.0'];
      const innerDestination = '10.5.1.6';
      await forge(overlay.stranger, [
        ...sources.map((innerSource) => ({ ...fromNode2, innerSource, innerDestination, payload: innerSource })),
        { ...fromNode2, innerSource: '10.5.2.6', innerDestination, payload: 'honest' },
      ]);
      await pod.until('honest');
      assert.deepEqual(pod.payloads, ['honest']);
      assert.equal((await node1.status()).decap.dropped['spoofed-source'], sources.length);
    } finally {
      await Promise.all([pod.stop(), node1.stop()]);
    }
  });

  test('a stranger is named once with the flag that admits it, and admitted by it', async () => {
    const forgery = { ...fromStranger, innerSource: '10.5.2.6', innerDestination: '10.5.1.6', payload: 'admitted' };
    const pod = await Receiver.start(overlay.pod1, 9999);
    try {
      const wary = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
      await forge(overlay.stranger, [forgery, forgery, forgery]);
      while (((await wary.status()).decap.dropped['unknown-sender'] ?? 0) < 3) continue;
      await wary.stop();
      assert.equal(wary.log.split('--trusted-source 192.168.64.9/32').length - 1, 1, wary.log);
      assert.deepEqual(pod.payloads, []);

      const trusting = await StaticNode.start(overlay.node1, NODE1, [NODE2], {
        trustedSources: ['192.168.64.9/32'],
      });
      await forge(overlay.stranger, [forgery]);
      await pod.until('admitted');
      await trusting.stop();
    } finally {
      await pod.stop();
    }
  });
});

describe('starting and stopping', () => {
  let overlay: Overlay;
  before(async () => {
    overlay = await Overlay.build('us');
  });
  after(() => overlay.remove());

  const indexOf = async (device: string): Promise<string> => {
    const shown = await overlay.node1.ip(`-o link show dev ${device}`);
    return shown.split(':')[0];
  };

  test('a restart finds its device again, with address and route in place, also after a kill', async () => {
    const first = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    const index = await indexOf('flannel0');
    await first.stop();
    assert.equal(await indexOf('flannel0'), index, 'the device stays');
    assert.match(await overlay.node1.ip('route show 10.5.0.0/16'), /dev flannel0/);
    const second = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    assert.equal(second.device, 'flannel0');
    await second.kill();
    const third = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    assert.equal(third.device, 'flannel0');
    assert.equal(await indexOf('flannel0'), index);
    await third.stop();
  });

  test('a start under traffic takes no node for a stranger, and tells no pod of an unreachable one', async () => {
    const peer = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    const inward = overlay.pod2.spawn('ping', ['-n', '-q', '-i', '0.002', '10.5.1.6']);
    const outward = overlay.pod1.spawn('ping', ['-n', '-q', '-i', '0.002', '10.5.2.6']);
    for (let starts = 0; starts < 3; starts++) {
      const node = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
      const { encap, decap } = await until('packets pass both ways', async () => {
        const status = await node.status();
        return status.encap.packets > 0 && status.decap.packets > 0 ? status : undefined;
      });
      assert.deepEqual([encap.dropped, decap.dropped], [{}, {}]);
      assert.doesNotMatch(node.log, /are dropped/);
      await node.stop();
    }
    inward.kill();
    outward.kill();
    await peer.stop();
  });

  test('a restart with another subnet gives the device its new address and takes the old one away', async () => {
    const moved = { subnet: '10.5.9.0/24', publicIp: NODE1.publicIp };
    const node = await StaticNode.start(overlay.node1, moved, [NODE2]);
    const shown = await overlay.node1.ip('-4 address show dev flannel0');
    assert.match(shown, /10\.5\.9\.0\/32/);
    assert.doesNotMatch(shown, /10\.5\.1\.0/);
    await node.stop();
  });

  test('two networks on one host have a device each, and each finds its own again', async () => {
    const blue = { networkId: '/blue', network: '10.7.0.0/16', port: 8287 };
    const own = { subnet: '10.7.1.0/24', publicIp: NODE1.publicIp };
    const red = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    const other = await StaticNode.start(overlay.node1, own, [], blue);
    assert.deepEqual([red.device, other.device], ['flannel0', 'flannel1']);
    await red.stop();
    await other.stop();
    const again = await StaticNode.start(overlay.node1, own, [], blue);
    assert.equal(again.device, 'flannel1');
    await again.stop();
  });

  test('a port that is in use is named in one line', async () => {
    const first = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    await assert.rejects(
      StaticNode.start(overlay.node1, { ...NODE1, subnet: '10.8.1.0/24' }, [], {
        networkId: '/green',
        network: '10.8.0.0/16',
      }),
      /UDP 192\.168\.64\.1:8285 is in use/,
    );
    await first.stop();
  });

  test('a second daemon for the same network is refused', async () => {
    const first = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    await assert.rejects(StaticNode.start(overlay.node1, NODE1, [NODE2], { port: 9285 }), /flannel0.*in use/);
    await first.stop();
  });

  test('a route to the Network by a living device is left alone, and named', async () => {
    await overlay.node1.addRoute('10.9.0.0/16', 'dev cni0');
    const own = { subnet: '10.9.1.0/24', publicIp: NODE1.publicIp };
    await assert.rejects(
      StaticNode.start(overlay.node1, own, [], { networkId: '/grey', network: '10.9.0.0/16', port: 8289 }),
      /10\.9\.0\.0\/16 is routed to cni0 already/,
    );
    assert.match(await overlay.node1.ip('route show 10.9.0.0/16'), /dev cni0/);
    assert.doesNotMatch(await overlay.node1.ip('link show'), /flannel[2-9]/, 'no device is left behind');
  });

  test('several workers share the traffic, and a restart with another number of them works', async () => {
    const two = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    for (const workers of [3, 1, 2]) {
      const one = await StaticNode.start(overlay.node1, NODE1, [NODE2], { workers });
      assert.equal(one.device, 'flannel0');
      assert.equal((await one.status()).workers.length, 2 * workers);
      assert.match(await ping(overlay.pod1, ['-c', '5', '10.5.2.6']), / 0% packet loss/);
      assert.match(await ping(overlay.pod1, ['-c', '1', '10.5.77.1']), /Destination Net Unreachable/);
      await one.stop();
    }
    await two.stop();
  });

  test('a peer that dies and comes back is reached again, and so is one behind a firewall that opens', async () => {
    const one = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    const two = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    await two.kill();
    await ping(overlay.pod1, ['-c', '5', '-W', '0.2', '10.5.2.6']);
    const again = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    assert.match(await ping(overlay.pod1, ['-c', '5', '10.5.2.6']), / 0% packet loss/);

    const rule = ['OUTPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP'];
    await overlay.node1.exec('iptables', ['-I', ...rule]);
    const before = (await one.status()).encap.dropped['send-failed'] ?? 0;
    await ping(overlay.pod1, ['-c', '3', '-W', '0.2', '10.5.2.6']);
    assert.equal(((await one.status()).encap.dropped['send-failed'] ?? 0) - before, 3);
    await overlay.node1.exec('iptables', ['-D', ...rule]);
    assert.match(await ping(overlay.pod1, ['-c', '5', '10.5.2.6']), / 0% packet loss/);
    await one.stop();
    await again.stop();
  });

  test('the external address may go and come back', async () => {
    const one = await StaticNode.start(overlay.node1, NODE1, [NODE2]);
    const two = await StaticNode.start(overlay.node2, NODE2, [NODE1]);
    await overlay.node1.ip('link set eth0 down');
    await ping(overlay.pod1, ['-c', '3', '-W', '0.2', '10.5.2.6']);
    await overlay.node1.ip('address flush dev eth0');
    await ping(overlay.pod1, ['-c', '3', '-W', '0.2', '10.5.2.6']);
    await overlay.node1.addAddress('eth0', '192.168.64.1/24');
    await overlay.node1.setUp('eth0');
    assert.match(await ping(overlay.pod1, ['-c', '5', '-W', '1', '10.5.2.6']), /[1-5] received/);
    assert.ok(((await one.status()).encap.dropped['send-failed'] ?? 0) >= 1);
    await one.stop();
    await two.stop();
  });
});
