/** Certificates for tests, made with openssl. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Makes a certificate authority in `folder`, or with `authority` a certificate of it for an address. */
export function makeCertificate(folder: string, name: string, authority?: Certificate, address?: string): Certificate {
  const made = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
  const by = authority === undefined ? [] : ['-CA', authority.cert, '-CAkey', authority.key];
  const names = address === undefined ? [] : ['-addext', `subjectAltName=IP:${address}`];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-keyout', made.key, '-out', made.cert, ...names, ...by],
    ],
    { stdio: 'pipe' },
  );
  return made;
}
