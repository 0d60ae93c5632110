import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { FlannelError, NetworkConfigError } from '../../../src/errors.js';
import type { ExternalInterface } from '../../../src/host/external-interface.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import type { StoreSnapshot } from '../../../src/subnet/store-snapshot.js';
import type { LeaseRequest } from '../../../src/subnet/subnet-manager.js';
import { ip, prefix } from '../../support/addresses.js';
import { CONFIG, EXTERNAL, HASTY, lease, never, Node, OWN, PEER, until } from './memory-node.js';

describe('the life of an agent', () => {
  test('goes from configuration to readiness in order, and stops in order', async () => {
    const node = new Node();
    await node.whileReady(() => {
      assert.equal(node.state.notReadyReason(), undefined);
      assert.equal(node.state.status().lease?.subnet, '10.5.1.0/24');
      assert.deepEqual(
        [...node.state.leaseAnswers()].map(({ subnet, own }) => [subnet, own]),
        [
          ['10.5.1.0/24', true],
          ['10.5.2.0/24', false],
        ],
      );
    });
    assert.deepEqual(node.events, [
      'configuration',
      'interface',
      'watch',
      'lease',
      'backend',
      'table 2',
      'rules',
      'keep',
      'subnet.env',
      'backend stop',
      'close',
    ]);
    assert.equal(node.state.phase, 'stopping');
    assert.ok(node.lines.includes('warn forwarding is off'));
  });

  test('tells systemd what it waits for, that it is ready, and that it stops', async () => {
    const node = new Node();
    await node.whileReady(() => undefined);
    assert.ok(node.notified.some((message) => message.startsWith('READY=1\nSTATUS=10.5.1.0/24 on flannel0')));
    assert.match(node.notified.at(-1) ?? '', /^STOPPING=1/);
  });

  test('asks for the subnet of its earlier run', async () => {
    const node = new Node(['--public-ip=203.0.113.9']);
    let asked: LeaseRequest | undefined;
    node.acquireLease = (request) => {
      asked = request;
      return Promise.resolve(OWN);
    };
    await node.whileReady(() => undefined);
    assert.deepEqual(asked, {
      publicIp: ip('203.0.113.9'),
      publicIpv6: null,
      backendType: '',
      previousSubnet: prefix('10.5.7.0/24'),
    });
  });

  test('starts the backend with the leases that are known', async () => {
    const node = new Node();
    let known: readonly Lease[] = [];
    node.startBackend = ({ leases }) => {
      known = leases;
      return Promise.resolve();
    };
    await node.whileReady(() => undefined);
    assert.deepEqual(known, [OWN, PEER]);
  });

  test('passes changes of leases on to the backend', async () => {
    const node = new Node();
    await node.whileReady(() => {
      node.watcher?.change([lease('10.5.3.0/24', '192.0.2.3')], [PEER.subnet]);
      assert.equal(node.state.leases(), 2);
    });
    assert.ok(node.events.includes('change 1 1'));
  });

  describe('after an earlier run', () => {
    const prefix = '/coreos.com/network';
    const earlier: StoreSnapshot = { prefix, config: CONFIG, own: OWN, leases: [OWN, PEER] };

    test('lets packets flow by what that knew before the store answers, and goes on with that backend', async () => {
      const node = new Node();
      node.snapshot = earlier;
      let known: readonly Lease[] = [];
      node.startBackend = ({ leases }) => {
        known = leases;
        return Promise.resolve();
      };
      await node.whileReady(() => undefined);
      assert.deepEqual(known, [OWN, PEER]);
      assert.deepEqual(node.events, [
        ...['interface', 'backend', 'configuration', 'interface', 'watch', 'table 2', 'lease', 'rules', 'keep'],
        ...['subnet.env', 'backend stop', 'close'],
      ]);
    });

    test('forwards without a store, unready, with the leases of that run', async () => {
      const node = new Node();
      node.snapshot = earlier;
      node.networkConfig = never;
      const life = node.run();
      await until(() => node.events.includes('configuration'));
      assert.match(node.state.notReadyReason() ?? '', /waiting for the network configuration/);
      assert.deepEqual(
        [...node.state.leaseAnswers()].map(({ subnet, own }) => [subnet, own]),
        [
          ['10.5.1.0/24', true],
          ['10.5.2.0/24', false],
        ],
      );
      node.stop.abort();
      await life;
      assert.equal(node.events.at(-2), 'backend stop');
      assert.equal(node.snapshot, earlier);
    });

    const changes: [string, Partial<StoreSnapshot>, RegExp][] = [
      ['another subnet', { own: lease('10.5.9.0/24', '192.0.2.1') }, /the subnet has changed from 10\.5\.9\.0\/24/],
      [
        'another configuration',
        { config: parseNetworkConfig('{"Network": "10.6.0.0/16"}', { backendTypes: ['udp'] }) },
        /the network configuration has changed/,
      ],
    ];
    for (const [what, change, line] of changes) {
      test(`starts the backend again when the store has ${what} for it`, async () => {
        const node = new Node();
        node.snapshot = { ...earlier, ...change };
        await node.whileReady(() => undefined);
        assert.deepEqual(
          node.events.filter((event) => event.startsWith('backend')),
          ['backend', 'backend stop', 'backend', 'backend stop'],
        );
        assert.equal(node.lines.filter((text) => line.test(text)).length, 1, node.lines.join('\n'));
      });
    }

    test('waits for the store where this host has another address now', async () => {
      const node = new Node(['--public-ip=192.0.2.7']);
      node.snapshot = earlier;
      await node.whileReady(() => undefined);
      assert.ok(node.events.indexOf('configuration') < node.events.indexOf('backend'));
      assert.equal(
        node.lines.filter((text) => /snapshot of the last run is not used: .*192\.0\.2\.1/.test(text)).length,
        1,
      );
    });

    test('leaves what that knew for the next, where the store has not listed the leases since', async () => {
      const node = new Node();
      node.snapshot = earlier;
      node.listsLeases = false;
      await node.whileReady(() => (node.snapshot = undefined));
      assert.deepEqual(node.snapshot, earlier);
    });

    test('leaves nothing where nobody knows all leases', async () => {
      const node = new Node();
      node.listsLeases = false;
      await node.whileReady(() => undefined);
      assert.equal(node.snapshot, undefined);
    });

    test('leaves what the store told for the next', async () => {
      const node = new Node();
      await node.whileReady(() => undefined);
      assert.deepEqual(node.snapshot, { prefix, config: CONFIG, own: OWN, leases: [OWN, PEER] });
    });
  });

  const troubles: [string, (node: Node, error: Error) => void, Error, RegExp][] = [
    [
      'a missing configuration',
      (node, error) => (node.networkConfig = failOnce(error, CONFIG)),
      new NetworkConfigError('there is none'),
      /waiting for the network configuration: there is none/,
    ],
    [
      'a store that cannot be reached',
      (node, error) => (node.networkConfig = failOnce(error, CONFIG)),
      new FlannelError('STORE', 'no route to etcd'),
      /waiting for the network configuration: no route to etcd/,
    ],
    [
      'a missing interface',
      (node, error) => (node.chooseInterface = failOnce(error, EXTERNAL)),
      new FlannelError('INTERFACE', 'no default route'),
      /waiting for the external interface: no default route/,
    ],
    [
      'a network without a free subnet',
      (node, error) => (node.acquireLease = failOnce(error, OWN)),
      new FlannelError('LEASE', 'out of subnets'),
      /waiting for a subnet: out of subnets/,
    ],
    [
      'rules that cannot be set',
      (node, error) => (node.ensureRules = failOnce(error, undefined)),
      new FlannelError('HOST', 'no iptables'),
      /not ready: no iptables/,
    ],
    [
      'a subnet file that cannot be written',
      (node, error) => (node.writeSubnetFile = failOnce(error, undefined)),
      new FlannelError('HOST', 'disk full'),
      /not ready: disk full/,
    ],
  ];
  for (const [what, arrange, error, line] of troubles) {
    test(`waits for ${what}, says so once, and goes on`, async () => {
      const node = new Node();
      arrange(node, error);
      const life = node.run();
      await until(() => node.state.reason !== undefined);
      assert.match(node.state.notReadyReason() ?? '', new RegExp(error.message));
      await until(() => node.state.phase === 'ready');
      assert.equal(node.state.notReadyReason(), undefined);
      assert.equal(node.lines.filter((text) => line.test(text)).length, 1, node.lines.join('\n'));
      node.stop.abort();
      await life;
    });
  }

  test('refuses a network that contains its own address, until it is repaired', async () => {
    const node = new Node();
    const bad = parseNetworkConfig('{"Network": "192.0.0.0/16"}', { backendTypes: ['udp'] });
    const configs = [bad, CONFIG];
    node.networkConfig = () => Promise.resolve(configs.shift() ?? CONFIG);
    await node.whileReady(() => undefined);
    assert.ok(node.lines.some((line) => /waiting for the external interface: .*192\.0\.2\.1.*eth0/.test(line)));
    assert.equal(node.events.filter((event) => event === 'lease').length, 1);
  });

  test('ends with the error when the backend cannot be started', async () => {
    const node = new Node();
    const error = new FlannelError('HOST', '/dev/net/tun is missing');
    node.startBackend = () => Promise.reject(error);
    await assert.rejects(node.run(), error);
    assert.equal(node.events.at(-1), 'close');
  });

  test('starts a backend that failed again, with the leases known by then, and is unready meanwhile', async () => {
    const node = new Node();
    let mended: () => void = () => undefined;
    let starts = 0;
    node.startBackend = () => (++starts === 1 ? Promise.resolve() : new Promise((resolve) => (mended = resolve)));
    await node.whileReady(async () => {
      node.watcher?.snapshot([PEER]);
      node.events.splice(0);
      node.failBackend(new FlannelError('BACKEND', 'the device was deleted'));
      await until(() => starts === 2);
      assert.equal(node.state.notReadyReason(), 'packets do not flow: the device was deleted');
      assert.equal(node.state.status().state, 'backend');
      mended();
      await until(() => node.state.notReadyReason() === undefined);
      assert.deepEqual(node.events, ['backend stop', 'backend', 'table 1']);
    });
    assert.equal(
      node.lines.filter((line) => /^error packets do not flow: the device was deleted/.test(line)).length,
      1,
    );
  });

  test('a backend that comes up again after the stop is stopped as well', async () => {
    const node = new Node();
    let mended: () => void = () => undefined;
    let starts = 0;
    node.startBackend = () => (++starts === 1 ? Promise.resolve() : new Promise((resolve) => (mended = resolve)));
    await node.whileReady(async () => {
      node.failBackend(new FlannelError('BACKEND', 'the device was deleted'));
      await until(() => starts === 2);
    });
    mended();
    await until(() => node.events.at(-1) === 'backend stop');
  });

  test('ends with what is no failure of the backend, but of the program', async () => {
    const node = new Node();
    const life = node.run();
    await until(() => node.state.phase === 'ready');
    const error = new TypeError('a bug');
    node.failBackend(error);
    await assert.rejects(life, error);
    assert.deepEqual(node.events.slice(-2), ['backend stop', 'close']);
  });

  const moments: [string, (node: Node) => void][] = [
    ['before it begins', (node) => node.stop.abort()],
    ['while it reads the configuration', (node) => (node.networkConfig = never)],
    [
      'while it waits for a repaired configuration',
      (node) => (node.networkConfig = () => Promise.reject(new NetworkConfigError('x'))),
    ],
    ['while it takes a lease', (node) => (node.acquireLease = (_request, signal) => never(signal))],
    ['while the rules do not work', (node) => (node.ensureRules = () => Promise.reject(new FlannelError('HOST', 'x')))],
    ['when it is ready', () => undefined],
  ];
  for (const [when, arrange] of moments) {
    test(`stops ${when}`, async () => {
      const node = new Node();
      arrange(node);
      const life = node.run();
      await new Promise((resolve) => setTimeout(resolve, 20));
      node.stop.abort();
      await life;
      assert.equal(node.events.at(-1), 'close');
      assert.equal(node.events.includes('backend'), node.events.includes('backend stop'));
    });
  }

  describe('whose subnet another node has', () => {
    const NEXT = lease('10.5.8.0/24', '192.0.2.1');

    function lose(node: Node): void {
      node.ownLease?.lost('10.5.1.0/24 belongs to 192.0.2.9 now');
      node.endKeeping();
    }

    test('gives it up, goes on forwarding until it has another, and is ready again with that', async () => {
      const node = new Node();
      node.clock = HASTY;
      const asked: LeaseRequest[] = [];
      let granted: (lease: Lease) => void = () => undefined;
      const outcomes = [
        () => Promise.resolve(OWN),
        () => Promise.reject(new FlannelError('LEASE', 'out of subnets')),
        () => new Promise<Lease>((resolve) => (granted = resolve)),
      ];
      node.acquireLease = (request) => {
        asked.push(request);
        return (outcomes.shift() ?? assert.fail('asked too often'))();
      };
      const backends: Lease[] = [];
      node.startBackend = (options) => {
        backends.push(options.lease);
        return Promise.resolve();
      };
      await node.whileReady(async () => {
        node.events.splice(0);
        lose(node);
        await until(() => asked.length === 2);
        await until(() => /out of subnets/.test(node.state.notReadyReason() ?? ''));
        assert.match(
          node.state.notReadyReason() ?? '',
          /^subnet 10\.5\.1\.0\/24 is lost: .*192\.0\.2\.9 now; no new place/,
        );
        const { state, lease: shown } = node.state.status();
        assert.deepEqual([state, shown], ['lease', undefined]);
        assert.equal(node.state.leaseExpiresAtMs(), undefined);
        assert.equal(node.state.leasesLost(), 1);
        await until(() => asked.length === 3);
        assert.deepEqual(backends, [OWN], 'packets flow as before');
        granted(NEXT);
        await until(() => node.state.notReadyReason() === undefined);
        assert.equal(node.state.status().lease?.subnet, '10.5.8.0/24');
        assert.deepEqual(backends, [OWN, NEXT]);
        const [concern] = node.state.status().concerns ?? [];
        assert.equal(concern.id, 'lost-subnet');
        assert.match(concern.message, /10\.5\.8\.0\/24 now, and pods with addresses of 10\.5\.1\.0\/24 are cut off/);
        assert.deepEqual(
          node.events.filter((event) => /^(backend.*|subnet\.env)$/.test(event)),
          ['backend stop', 'backend', 'subnet.env'],
        );
      });
      for (const { previousSubnet, formerPublicIp } of asked.slice(1)) {
        assert.deepEqual([previousSubnet, formerPublicIp], [OWN.subnet, OWN.publicIp]);
      }
      assert.ok(node.lines.some((line) => /^error subnet 10\.5\.1\.0\/24 is lost/.test(line)));
      assert.ok(node.lines.includes('info ready again'));
      assert.match(node.notified.join('\n'), /STATUS=10\.5\.1\.0\/24 on flannel0; subnet 10\.5\.1\.0\/24 is lost/);
      assert.match(node.notified.at(-2) ?? '', /^STATUS=10\.5\.8\.0\/24 on flannel0/);
    });

    test('goes on with the same backend when it gets the same subnet back', async () => {
      const node = new Node();
      await node.whileReady(async () => {
        node.events.splice(0);
        lose(node);
        await until(() => node.events.includes('keep'));
        assert.equal(node.state.notReadyReason(), undefined);
        assert.deepEqual(node.state.status().concerns, []);
        assert.ok(!node.events.includes('backend stop'));
      });
      assert.ok(node.lines.includes('info lease taken back'));
    });

    test('survives a host that does not let it start the backend again at first', async () => {
      const node = new Node();
      node.clock = HASTY;
      const leases = [OWN];
      node.acquireLease = () => Promise.resolve(leases.shift() ?? NEXT);
      const outcomes = [undefined, new FlannelError('HOST', 'the device is busy'), undefined];
      node.startBackend = () => {
        const error = outcomes.shift();
        return error === undefined ? Promise.resolve() : Promise.reject(error);
      };
      await node.whileReady(async () => {
        lose(node);
        await until(() => outcomes.length === 1);
        await until(() => node.state.notReadyReason() === 'packets do not flow: the device is busy');
        await until(() => node.state.notReadyReason() === undefined);
        assert.equal(node.state.status().lease?.subnet, '10.5.8.0/24');
      });
    });
  });

  test('is unready while its lease has run out and nobody can be asked, and goes on forwarding', async () => {
    const node = new Node();
    await node.whileReady(() => {
      node.events.splice(0);
      node.ownLease?.expired();
      assert.match(node.state.notReadyReason() ?? '', /10\.5\.1\.0\/24 has run out by this node's clock/);
      assert.equal(node.state.status().state, 'lease');
      assert.deepEqual(node.events, []);
      node.ownLease?.renewed(OWN);
      assert.equal(node.state.notReadyReason(), undefined);
    });
    assert.ok(node.lines.some((line) => /^error the lease of 10\.5\.1\.0\/24 has run out/.test(line)));
  });

  test('is unready while the store has no lease of it and takes none, and goes on forwarding', async () => {
    const node = new Node();
    await node.whileReady(() => {
      node.events.splice(0);
      for (let attempt = 0; attempt < 3; attempt++) node.ownLease?.missing('its database is full');
      assert.match(node.state.notReadyReason() ?? '', /10\.5\.1\.0\/24 is gone from the store.*database is full$/);
      assert.equal(node.state.status().state, 'lease');
      assert.deepEqual(node.events, []);
      node.ownLease?.renewed(OWN);
      assert.equal(node.state.notReadyReason(), undefined);
    });
    assert.equal(node.lines.filter((line) => /^warn the lease of 10\.5\.1\.0\/24 is gone/.test(line)).length, 1);
  });

  test('says that another machine has its public IP, and stays ready', async () => {
    const node = new Node();
    await node.whileReady(() => {
      node.ownLease?.addressShared('another machine runs an agent with 192.0.2.1');
      assert.equal(node.state.notReadyReason(), undefined);
      assert.deepEqual(
        node.state.status().concerns?.map(({ id }) => id),
        ['public-ip'],
      );
    });
    assert.ok(node.lines.some((line) => /^error another machine .*--public-ip/.test(line)));
  });

  test('goes on with its configuration when that in the store changes or goes, and says so until it is back', async () => {
    const node = new Node();
    await node.whileReady(() => {
      const ids = () => node.state.status().concerns?.map(({ id }) => id);
      node.tellConfig(CONFIG);
      assert.deepEqual(ids(), []);
      node.tellConfig(parseNetworkConfig('{"Network": "10.6.0.0/16"}', { backendTypes: ['udp'] }));
      node.tellConfig(parseNetworkConfig('{"Network": "10.6.0.0/16"}', { backendTypes: ['udp'] }));
      assert.deepEqual(ids(), ['configuration']);
      node.tellConfig(new NetworkConfigError('the key is absent'));
      assert.match(node.state.status().concerns?.[0].message ?? '', /the key is absent/);
      node.tellConfig(CONFIG);
      assert.deepEqual(ids(), []);
      assert.equal(node.state.notReadyReason(), undefined);
    });
    assert.equal(node.lines.filter((line) => /differs .* in Network, SubnetMin, SubnetMax/.test(line)).length, 1);
    assert.equal(node.lines.filter((line) => /^warn the key is absent/.test(line)).length, 1);
  });

  test('follows its address to another, and keeps its subnet under it', async () => {
    const node = new Node();
    node.clock = HASTY;
    const moved: ExternalInterface = { ...EXTERNAL, address: ip('192.0.2.77') };
    const asked: LeaseRequest[] = [];
    node.acquireLease = (request) => {
      asked.push(request);
      return Promise.resolve({ ...OWN, publicIp: request.publicIp });
    };
    const bound: number[] = [];
    node.startBackend = ({ external }) => {
      bound.push(external.address);
      return Promise.resolve();
    };
    await node.whileReady(async () => {
      node.chooseInterface = () => Promise.resolve(moved);
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.deepEqual(bound, [EXTERNAL.address], 'an address that is still there is not left');
      node.address = moved.address;
      await until(() => node.state.status().state === 'interface');
      assert.match(node.state.notReadyReason() ?? '', /eth0 has lost its address 192\.0\.2\.1/);
      await until(() => node.state.notReadyReason() === undefined && bound.length === 2);
      assert.deepEqual(bound, [EXTERNAL.address, moved.address]);
      assert.equal(node.state.status().publicIP, '192.0.2.77');
      assert.deepEqual(node.state.status().concerns, []);
    });
    const { publicIp, formerPublicIp, previousSubnet } = asked[1];
    assert.deepEqual([publicIp, formerPublicIp, previousSubnet], [moved.address, EXTERNAL.address, OWN.subnet]);
  });

  test('stays ready while renewals fail, and tells the reason', async () => {
    const node = new Node();
    await node.whileReady(() => {
      node.ownLease?.trouble('etcd is away');
      node.ownLease?.trouble('etcd is away');
      assert.equal(node.state.notReadyReason(), undefined);
      assert.equal(node.state.status().reason, 'etcd is away');
      node.ownLease?.renewed(OWN);
      assert.equal(node.state.status().reason, undefined);
    });
    assert.equal(node.lines.filter((line) => line.includes('etcd is away')).length, 1);
  });

  test('checks its rules again and again, and survives a check that fails', async () => {
    const node = new Node(['--iptables-resync=1']);
    await node.whileReady(async () => {
      node.ensureRules = failOnce(new FlannelError('HOST', 'locked'), undefined);
      await until(() => node.events.filter((event) => event === 'rules').length >= 3);
    });
    assert.equal(node.lines.filter((line) => line.includes('locked')).length, 1);
  });
});

function failOnce<T>(error: Error, value: T): () => Promise<T> {
  let failed = false;
  return () => {
    if (failed) return Promise.resolve(value);
    failed = true;
    return Promise.reject(error);
  };
}
