/** Leases of nodes that are not there, as many as a network holds. */
import type { EtcdGateway } from '../../src/lab/etcd-gateway.js';
import { formatIpv4 } from '../../src/packet/address.js';

/** All subnets of a network such as 10.0.0.0/8 with subnets of 24 bits. */
export const MOST_LEASES = 65_536;

/** What etcd takes in one transaction. */
const PUTS_A_TRANSACTION = 128;
const LAST_SUBNET = 0x0affff00;
const FIRST_OWNER = 0xac100001;

/** The subnet of the n-th of them, from 10.255.255.0 downwards, as its key names it. */
export function farSubnet(index: number): string {
  return `${formatIpv4(LAST_SUBNET - index * 256)}-24`;
}

/** What stands under its key. */
export function farLease(index: number): string {
  return JSON.stringify({ PublicIP: formatIpv4(FIRST_OWNER + index), PublicIPv6: null });
}

/** Writes the first `count` of them below `PREFIX/subnets/`. */
export async function putFarLeases(etcd: EtcdGateway, prefix: string, count: number): Promise<void> {
  for (let start = 0; start < count; start += PUTS_A_TRANSACTION) {
    const success = Array.from({ length: Math.min(PUTS_A_TRANSACTION, count - start) }, (_, offset) => ({
      request_put: {
        key: base64(`${prefix}/subnets/${farSubnet(start + offset)}`),
        value: base64(farLease(start + offset)),
      },
    }));
    await etcd.call('/v3/kv/txn', { success });
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
