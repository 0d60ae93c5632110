/** Certificates for tests, made with openssl. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Makes a certificate authority in `folder`, or with `authority` a certificate of it for an address. */
export function makeCertificate(folder: string, name: string, authority?: Certificate, address?: string): Certificate {
  const made = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
  const by = authority === undefined ? [] : ['-CA', authority.cert, '-CAkey', authority.key];
  const names = address === undefined ? [] : ['-addext', `subjectAltName=IP:${address}`];
  openssl(
    ...['req', '-x509', ...KEY, '-days', '2'],
    ...['-subj', `/CN=${name}`, '-keyout', made.key, '-out', made.cert, ...names, ...by],
  );
  return made;
}

/** Makes a certificate of an authority for an address that has expired long ago. */
export function makeExpiredCertificate(
  folder: string,
  name: string,
  authority: Certificate,
  address: string,
): Certificate {
  const file = (ending: string): string => join(folder, `${name}.${ending}`);
  const made = { cert: file('crt'), key: file('key') };
  // Only `openssl ca` of version 3.0 sets both dates.
  const settings = [
    ...['[ca]', 'default_ca = own', '[own]', `database = ${file('index')}`, `new_certs_dir = ${folder}`],
    ...['rand_serial = yes', 'default_md = sha256', 'policy = any', 'x509_extensions = names', 'unique_subject = no'],
    ...['[any]', 'commonName = supplied', '[names]', `subjectAltName = IP:${address}`],
  ];
  writeFileSync(file('cnf'), settings.join('\n') + '\n');
  writeFileSync(file('index'), '');
  openssl('req', '-new', ...KEY, '-subj', `/CN=${name}`, '-keyout', made.key, '-out', file('csr'));
  openssl(
    ...['ca', '-batch', '-notext', '-config', file('cnf'), '-cert', authority.cert, '-keyfile', authority.key],
    ...['-in', file('csr'), '-out', made.cert, '-startdate', '20200101000000Z', '-enddate', '20200102000000Z'],
  );
  return made;
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}
