/**
 * etcd's JSON gateway on a unix socket: what a lab or a test asks of its etcd, without a client library and whatever TLS
 * the server's other addresses demand.
 */
import { request } from 'node:http';
import { errorMessage, FlannelError } from '../errors.js';

/** Rights that a role gets on a key, or on all keys with a prefix. */
export type EtcdPermission = 'READ' | 'WRITE' | 'READWRITE';

/** Talks to the etcd behind one socket. */
export class EtcdGateway {
  private rootToken: string | undefined;
  private rootPassword: string | undefined;

  constructor(protected readonly socketPath: string) {}

  /**
   * Calls etcd's JSON gateway over the unix socket, as root once `enableAuth` has been called.
   * @param path - such as `/v3/kv/range`; byte fields of `body` and of the answer are base64
   * @throws FlannelError `LAB` with etcd's own words
   */
  async call(path: string, body: object): Promise<Record<string, unknown>> {
    const answer = await this.ask('POST', path, JSON.stringify(body), this.rootToken);
    // A restart forgets tokens, and they expire.
    if (answer.status === 401 && this.rootPassword !== undefined) {
      this.rootToken = await this.authenticate(this.rootPassword);
      return this.call(path, body);
    }
    if (answer.status !== 200) throw new FlannelError('LAB', `etcd refused ${path}: ${answer.text.trim()}`);
    return JSON.parse(answer.text) as Record<string, unknown>;
  }

  /** Writes one key. */
  async put(key: string, value: string): Promise<void> {
    await this.call('/v3/kv/put', { key: base64(key), value: base64(value) });
  }

  /** Reads one key; `undefined` when it is absent. */
  async get(key: string): Promise<string | undefined> {
    const answer = (await this.call('/v3/kv/range', { key: base64(key) })) as { kvs?: { value?: string }[] };
    const found = answer.kvs?.[0];
    return found === undefined ? undefined : Buffer.from(found.value ?? '', 'base64').toString();
  }

  /** Every key that begins with `prefix`, with the revision of its last write. */
  async list(prefix: string): Promise<{ key: string; value: string; modRevision: string }[]> {
    const answer = (await this.call('/v3/kv/range', { key: base64(prefix), range_end: prefixEnd(prefix) })) as {
      kvs?: { key: string; value?: string; mod_revision: string }[];
    };
    const plain = (text = ''): string => Buffer.from(text, 'base64').toString();
    return (answer.kvs ?? []).map((kv) => ({
      key: plain(kv.key),
      value: plain(kv.value),
      modRevision: kv.mod_revision,
    }));
  }

  /** Writes one key behind an etcd lease of so many seconds. */
  async putLeased(key: string, value: string, ttlSeconds: number): Promise<void> {
    const { ID } = await this.call('/v3/lease/grant', { TTL: ttlSeconds });
    await this.call('/v3/kv/put', { key: base64(key), value: base64(value), lease: ID });
  }

  /** Deletes one key, or with `prefix` every key that begins so. */
  async delete(key: string, options: { prefix?: boolean } = {}): Promise<void> {
    const end = options.prefix === true ? { range_end: prefixEnd(key) } : {};
    await this.call('/v3/kv/deleterange', { key: base64(key), ...end });
  }

  /** Turns on password authentication, with the user `root`. */
  async enableAuth(rootPassword: string): Promise<void> {
    await this.call('/v3/auth/role/add', { name: 'root' });
    await this.call('/v3/auth/user/add', { name: 'root', password: rootPassword });
    await this.call('/v3/auth/user/grant', { user: 'root', role: 'root' });
    await this.call('/v3/auth/enable', {});
    this.rootPassword = rootPassword;
    this.rootToken = await this.authenticate(rootPassword);
  }

  /** Adds a user whose role of the same name may touch only keys that begin with `prefix`. */
  async addUser(name: string, password: string, prefix: string, permission: EtcdPermission = 'READWRITE') {
    await this.call('/v3/auth/role/add', { name });
    await this.allowPrefix(name, prefix, permission);
    await this.call('/v3/auth/user/add', { name, password });
    await this.call('/v3/auth/user/grant', { user: name, role: name });
  }

  /** Lets a role touch all keys that begin with `prefix`. */
  async allowPrefix(role: string, prefix: string, permission: EtcdPermission): Promise<void> {
    const perm = { permType: permission, key: base64(prefix), range_end: prefixEnd(prefix) };
    await this.call('/v3/auth/role/grant', { name: role, perm });
  }

  /** Lets a role read one key. */
  async allowReading(role: string, key: string): Promise<void> {
    await this.call('/v3/auth/role/grant', { name: role, perm: { permType: 'READ', key: base64(key) } });
  }

  private async authenticate(password: string): Promise<string> {
    const answer = await this.ask('POST', '/v3/auth/authenticate', JSON.stringify({ name: 'root', password }));
    if (answer.status !== 200) throw new FlannelError('LAB', `etcd refused root: ${answer.text.trim()}`);
    return (JSON.parse(answer.text) as { token: string }).token;
  }

  /** Whether the server says that it is healthy; `undefined` when nobody answers. */
  protected async healthy(): Promise<boolean | undefined> {
    const answer = await this.ask('GET', '/health').catch(() => undefined);
    return answer === undefined ? undefined : answer.status === 200 && /"health":\s*"?true/.test(answer.text);
  }

  private ask(method: string, path: string, body?: string, token?: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const options = {
        socketPath: this.socketPath,
        method,
        path,
        headers: token === undefined ? {} : { authorization: token },
        timeout: 10_000,
      };
      const asked = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
      });
      asked.on('timeout', () => asked.destroy(new Error('no answer within 10 s')));
      asked.on('error', (error) => {
        reject(new FlannelError('LAB', `etcd cannot be asked for ${path}: ${errorMessage(error)}`, { cause: error }));
      });
      asked.end(body);
    });
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** The end of the range of all keys that begin with `prefix`, which must end in a character before U+007F. */
function prefixEnd(prefix: string): string {
  const end = Buffer.from(prefix);
  end[end.length - 1]++;
  return end.toString('base64');
}
