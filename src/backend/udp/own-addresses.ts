import type { ForwardingTable } from '../../dataplane/forwarding-table.js';
import { localAddresses } from '../../host/local-addresses.js';
import type { Logger } from '../../log.js';

/** This host's own addresses as the workers know them: those that no peer may use as an inner source. */
export class OwnAddresses {
  private saidTooMany = false;

  constructor(
    private readonly table: ForwardingTable,
    private readonly logger: Logger,
  ) {}

  /** Tells the workers of the addresses that this host has now, and answers them. */
  async refresh(): Promise<readonly number[]> {
    const addresses = await localAddresses();
    if (!this.table.setOwnAddresses(addresses) && !this.saidTooMany) {
      this.saidTooMany = true;
      this.logger.warn('this host has more addresses than are held against inner sources; the rest are not checked');
    }
    return addresses;
  }
}
