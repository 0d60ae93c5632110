/** Certificates for tests of TLS, made by openssl. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ETCD_ADDRESS } from './cluster.js';

/**
 * An authority (`ca.pem`), a certificate of it for the cluster's etcd (`server.pem`, `server-key.pem`) and one for its
 * clients (`client.pem`, `client-key.pem`), and an authority that signed neither (`other-ca.pem`).
 */
export function makeCertificates(folder: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  for (const authority of ['ca', 'other-ca']) {
    openssl(
      'req',
      '-x509',
      ...key,
      '-keyout',
      `${authority}-key.pem`,
      '-out',
      `${authority}.pem`,
      '-days',
      '2',
      '-subj',
      `/CN=${authority}`,
    );
  }
  for (const [name, usage] of [
    ['server', 'serverAuth'],
    ['client', 'clientAuth'],
  ]) {
    const extensions = `subjectAltName=IP:${ETCD_ADDRESS}\nextendedKeyUsage=${usage}\n`;
    writeFileSync(join(folder, `${name}.ext`), extensions);
    openssl('req', ...key, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca-key.pem',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.pem`,
    );
  }
}
