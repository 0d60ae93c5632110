import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { silentLogger } from '../../../src/log.js';
import { ServiceDescriptors } from '../../../src/observe/service-descriptors.js';

const PID = 4711;

interface Fixture {
  readonly told: string[];
  readonly warnings: string[];
  readonly store?: ServiceDescriptors;
}

/** Of the descriptors that `closed` names nothing is open. */
function open(
  environment: Record<string, string | undefined>,
  { broken = false, closed = [] }: { readonly broken?: boolean; readonly closed?: readonly number[] } = {},
): Fixture {
  const told: string[] = [];
  const warnings: string[] = [];
  const refuse = (): void => {
    if (broken) throw new Error('nobody listens');
  };
  const store = ServiceDescriptors.open(
    environment,
    PID,
    {
      send: (_path, message, fds = []) => {
        refuse();
        told.push([message.replaceAll('\n', ' '), ...fds].join(' '));
      },
      barrier: () => {
        refuse();
        told.push('barrier');
      },
      keepFromChildren: (fd) => {
        if (closed.includes(fd)) throw new Error(`${fd} is not open`);
        told.push(`closed on exec ${fd}`);
      },
    },
    { ...silentLogger, warn: (line) => warnings.push(line) },
  );
  return { told, warnings, store };
}

const passed = (): Record<string, string | undefined> => ({
  NOTIFY_SOCKET: '/run/notify',
  LISTEN_PID: String(PID),
  LISTEN_FDS: '2',
  LISTEN_FDNAMES: 'tun-0:udp-0',
});

describe("the service manager's descriptor store", () => {
  test('is not there without a service manager', () => {
    assert.equal(open({}).store, undefined);
    assert.equal(open({ ...passed(), NOTIFY_SOCKET: undefined }).store, undefined);
  });

  test('gives what was passed once, keeps it from other programs, and clears the variables', () => {
    const environment = passed();
    const { told, store } = open(environment);
    assert.deepEqual(store?.take(), [
      { name: 'tun-0', fd: 3 },
      { name: 'udp-0', fd: 4 },
    ]);
    assert.deepEqual(store?.take(), []);
    assert.deepEqual(told, ['closed on exec 3', 'closed on exec 4']);
    assert.deepEqual(environment, { NOTIFY_SOCKET: '/run/notify' });
  });

  const useless: [string, Record<string, string | undefined>][] = [
    ['for another process', { ...passed(), LISTEN_PID: '1' }],
    ['without a number', { ...passed(), LISTEN_FDS: undefined }],
    ['with a bad number', { ...passed(), LISTEN_FDS: '-1' }],
    ['with a number that no agent keeps', { ...passed(), LISTEN_FDS: '4000000000' }],
  ];
  for (const [what, environment] of useless) {
    test(`has nothing to give ${what}`, () => assert.deepEqual(open(environment).store?.take(), []));
  }

  test('gives what is open of what was promised, and says what is not', () => {
    const { store, warnings } = open(passed(), { closed: [3] });
    assert.deepEqual(store?.take(), [{ name: 'udp-0', fd: 4 }]);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /of 2 descriptors that LISTEN_FDS promises 1 are not there/);
  });

  test('passes descriptors on that have no name', () => {
    const { store } = open({ ...passed(), LISTEN_FDNAMES: undefined });
    assert.deepEqual(
      store?.take().map(({ name }) => name),
      ['unknown', 'unknown'],
    );
  });

  test('is asked to keep descriptors, not to watch them, and to drop them', () => {
    const { told, store } = open({ NOTIFY_SOCKET: '/run/notify' });
    store?.keep('tun-0', 17);
    store?.keep('tun-0', 18);
    store?.forgetAll();
    store?.forgetAll();
    assert.deepEqual(told, [
      'FDSTORE=1 FDNAME=tun-0 FDPOLL=0 17',
      'FDSTOREREMOVE=1 FDNAME=tun-0',
      'FDSTORE=1 FDNAME=tun-0 FDPOLL=0 18',
      'FDSTOREREMOVE=1 FDNAME=tun-0',
      'barrier',
    ]);
  });

  test('is asked to drop what an earlier process gave it, once for each name', () => {
    const { told, store } = open({ ...passed(), LISTEN_FDNAMES: 'tun-0:tun-0' });
    told.length = 0;
    store?.forgetAll();
    assert.deepEqual(told, ['FDSTOREREMOVE=1 FDNAME=tun-0', 'barrier']);
  });

  test('that does not listen is said once', () => {
    const { warnings, store } = open(passed(), { broken: true });
    store?.keep('tun-0', 17);
    store?.forgetAll();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /nobody listens/);
  });
});
