/** The way of a packet that a pod, this host or a client of it sends: through the host's routing, perhaps into the overlay. */
import type { FilterPacket } from '../../host/firewall/ruleset.js';
import type { RouteAnswer } from '../../host/route-lookup.js';
import type { ExplainAnswer } from '../../observe/control-protocol.js';
import { formatIpv4, parseIpv4 } from '../../packet/address.js';
import { PROTOCOL_UDP, UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';
import { Account, Dropped } from './account.js';
import { crossBridge, findSharedBridge, type SharedBridge } from './bridged-way.js';
import type { Explanation, PacketSpec } from './packet-spec.js';
import type { ExplainScene } from './scene.js';

type Taken = Exclude<RouteAnswer, { kind: 'refused' }>;

export async function explainEncap(spec: PacketSpec, scene: ExplainScene): Promise<Explanation> {
  return new EncapWay(spec, scene).walk();
}

class EncapWay {
  private readonly account = new Account();
  /** Of the packet as it is by now: masquerading replaces it. */
  private source: number | undefined;
  /** That it was sent with. */
  private sentFrom: number | undefined;
  /** The device that the packet comes in by; `undefined` for one of this host's own. */
  private inDevice: string | undefined;
  private ttl: number;
  private inOverlay = false;
  private answer: ExplainAnswer | undefined;
  private gateway: string | null = null;

  constructor(
    private readonly spec: PacketSpec,
    private readonly scene: ExplainScene,
  ) {
    this.source = spec.source;
    this.sentFrom = spec.source;
    this.ttl = spec.ttl;
  }

  async walk(): Promise<Explanation> {
    try {
      const bridge = await this.comeIn();
      if (bridge !== undefined) {
        await crossBridge(bridge, { ...this.spec, source: this.source ?? 0 }, this.scene.host, this.account);
        return this.explanation('delivered', null);
      }
      const route = await this.chooseRoute();
      const delivered = await this.leaveHost(route);
      if (!this.inOverlay) return this.explanation(delivered ? 'delivered' : 'forwarded', null);
      const nextHop = await this.encapsulate();
      await this.crossUnderlay(nextHop);
      this.arrive();
      return this.explanation('forwarded', null);
    } catch (error) {
      if (error instanceof Dropped) return this.explanation('dropped', error.reason);
      throw error;
    }
  }

  /** @returns the bridge that hands the packet on without this host's routing, if one does */
  private async comeIn(): Promise<SharedBridge | undefined> {
    const { source } = this;
    const { host, device } = this.scene;
    if (source === undefined) return undefined;
    const back = await host.route({ destination: source });
    const text = formatIpv4(source);
    if (back.kind === 'local') {
      this.account.pass('source', `${text} is an address of this host, which sends the packet itself`);
    } else if (back.kind === 'refused') {
      this.account.drop(
        'source',
        back.reason,
        `no route leads to the source ${text}, so no packet of it comes by here`,
      );
    } else if (back.device === device) {
      this.account.drop(
        'source',
        'no-route',
        `${text} lies behind ${device} itself, in a subnet that no node leases: no packet of it comes by here`,
      );
    } else {
      this.inDevice = back.device;
      const bridge = await findSharedBridge(host, back.device, source, this.spec.destination);
      const forwards = bridge === undefined ? ', and this host forwards it' : '';
      this.account.pass('source', `${text} is behind ${back.device}: the packet comes in there${forwards}`);
      return bridge;
    }
    return undefined;
  }

  private async chooseRoute(): Promise<Taken> {
    const { spec, inDevice, account } = this;
    const { host } = this.scene;
    const policy = await host.policyRules();
    if (policy.length > 0) {
      const shown = policy.map(({ priority, text }) => `${priority}: ${text}`).join('; ');
      account.pass('route', `policy rules (ip rule) are asked before the main table: ${shown}`);
    }
    if (inDevice !== undefined && this.source !== undefined) {
      account.filter(await host.filterRules(), ['prerouting'], this.packet(), 'the packet');
    }
    const route = await account.route(host, { destination: spec.destination, source: spec.source, inDevice });
    this.source ??= route.source;
    this.sentFrom = this.source;
    return route;
  }

  /** @returns whether the packet has reached its end on this node; else it is in the overlay device, or left by another */
  private async leaveHost(route: Taken): Promise<boolean> {
    const { spec, account, inDevice } = this;
    const { host, device } = this.scene;
    const rules = await host.filterRules();
    if (route.kind !== 'forward') {
      const hooks = inDevice === undefined ? (['output', 'input'] as const) : (['input'] as const);
      account.filter(rules, hooks, this.packet(), 'the packet');
      return true;
    }
    if (inDevice !== undefined) this.forwardByKernel();
    await this.fitInto(route);
    const packet = this.packet(route.device);
    const hook = inDevice === undefined ? 'output' : 'forward';
    const translation = account.filter(rules, [hook, 'postrouting'], packet, 'the packet');
    if (translation?.does === 'masquerade') await this.masquerade(route);
    this.answer = await this.scene.ask({ ...spec, ttl: this.ttl }, this.source ?? 0);
    if (route.device === device) {
      this.inOverlay = true;
      return false;
    }
    if (this.answer.destination.entry === 'own-subnet') {
      account.pass('route', `${route.device} leads to the pods of this node`);
      return true;
    }
    this.gateway = route.gateway === undefined ? null : formatIpv4(route.gateway);
    if (this.answer.destination.entry === 'outside-network') {
      account.pass('route', `the packet leaves by ${route.device}, outside of the overlay`);
    } else {
      account.unsure(
        'route',
        `the destination is in the overlay's Network, yet a route leads past ${device} into ${route.device}`,
      );
    }
    return false;
  }

  private forwardByKernel(): void {
    if (this.ttl <= 1) {
      this.account.drop('ttl', 'ttl-exceeded', `this host gets it with a TTL of ${this.ttl} and forwards no further`);
    }
    this.ttl--;
    this.account.pass('ttl', `this host takes one from the TTL: ${this.ttl}`);
  }

  private async fitInto(route: Taken): Promise<void> {
    const { lengthBytes, dontFragment } = this.spec;
    const link = (await this.scene.host.interfaces()).find(({ name }) => name === route.device);
    const mtu = route.mtuBytes ?? link?.mtuBytes;
    if (mtu === undefined || lengthBytes <= mtu) return;
    const fact = `its ${lengthBytes} bytes do not fit into ${route.device}, whose MTU is ${mtu}`;
    if (dontFragment) this.account.drop('mtu', 'packet-too-big', `${fact}, and it must not be fragmented`);
    this.account.pass('mtu', `${fact}: it is fragmented`);
  }

  private async masquerade(route: Taken): Promise<void> {
    const link = (await this.scene.host.interfaces()).find(({ name }) => name === route.device);
    const address = route.source ?? link?.addresses.at(0)?.address;
    if (address === undefined) return;
    this.source = address;
    this.account.pass('firewall', `so its source becomes ${formatIpv4(address)}`);
  }

  /** @returns the next hop's address */
  private async encapsulate(): Promise<number> {
    const { spec, account } = this;
    const answer = this.answer ?? (await this.scene.ask({ ...spec, ttl: this.ttl }, this.source ?? 0));
    const { destination, here } = answer;
    const entries: Readonly<Record<typeof destination.entry, string>> = {
      leased: `is in ${destination.lease?.subnet ?? 'a subnet'}, leased by the node at ${destination.nextHop ?? ''}`,
      'own-subnet': `is in ${answer.subnet}, this node's own subnet`,
      'no-lease': `is in the Network ${answer.network}, in a subnet that no node leases`,
      'outside-network': `is outside the Network ${answer.network}`,
    };
    account.pass('table', `${destination.address} ${entries[destination.entry]}`);
    if (here.verdict === 'dropped') {
      const ttl = here.reason === 'ttl-exceeded' ? ` (it comes with a TTL of ${this.ttl})` : '';
      account.drop('dataplane', here.reason ?? 'dropped', `the encapsulating worker drops it: ${here.reason}${ttl}`);
    }
    this.ttl--;
    account.pass('dataplane', `the encapsulating worker sends it to ${here.nextHop}, with a TTL of ${this.ttl}`);
    return parseIpv4((here.nextHop ?? '').split(':')[0]) ?? 0;
  }

  private async crossUnderlay(nextHop: number): Promise<void> {
    const { spec, account } = this;
    const { host, device, port, external } = this.scene;
    const text = formatIpv4(nextHop);
    const answer = await host.route({ destination: nextHop, source: external.address });
    if (answer.kind === 'refused') {
      return account.drop('underlay', 'send-failed', `this host has no way to the next hop ${text}: ${answer.text}`);
    }
    if (answer.device === device) {
      account.drop('underlay', 'outside-network', `the route to the next hop ${text} leads into ${device} again`);
    }
    const link = (await host.interfaces()).find(({ name }) => name === answer.device);
    const mtu = answer.mtuBytes ?? link?.mtuBytes ?? external.mtu;
    const bytes = spec.lengthBytes + UDP_OVERHEAD_BYTES;
    const gateway = answer.gateway === undefined ? '' : ` by the gateway ${formatIpv4(answer.gateway)}`;
    account.pass('underlay', `${text} is reached through ${answer.device}${gateway}, path MTU ${mtu}`);
    if (bytes > mtu && spec.dontFragment) {
      account.drop('underlay', 'packet-too-big', `the datagram of ${bytes} bytes does not fit into ${mtu}`);
    } else if (bytes > mtu) {
      account.pass(
        'underlay',
        `the datagram of ${bytes} bytes does not fit: the packet is fragmented before it is sent`,
      );
    }
    const datagram: FilterPacket = {
      source: external.address,
      destination: nextHop,
      protocol: PROTOCOL_UDP,
      sourcePort: port,
      destinationPort: port,
      outDevice: answer.device,
    };
    // The kernel refuses the send call then, and that is what the worker counts.
    account.filter(await host.filterRules(), ['output', 'postrouting'], datagram, 'the datagram', 'send-failed');
  }

  /** What is known of the other side. */
  private arrive(): void {
    const { account, answer } = this;
    const there = answer?.there;
    const lease = answer?.destination.lease?.subnet ?? 'its subnet';
    const { natAddress, external } = this.scene;
    if (there === undefined) return;
    if (natAddress !== undefined) {
      account.unsure(
        'next-hop',
        `this node sends from ${formatIpv4(external.address)}: NAT on the way has to make that its public IP ${natAddress}`,
      );
    }
    if (there.verdict === 'dropped') {
      account.drop(
        'next-hop',
        there.reason ?? 'dropped',
        `a next hop that knows the same leases drops it: ${there.reason}${this.whyThere(there.reason)}`,
      );
    }
    account.pass(
      'next-hop',
      `a next hop that knows the same leases lets it in: this node may speak for ${this.sourceText()}`,
    );
    if (this.ttl <= 2 && !this.isNodesOwn(lease)) {
      account.unsure('next-hop', 'it gets there with a TTL of 1: too little to reach a pod behind that node');
    }
  }

  private whyThere(reason: string | undefined): string {
    switch (reason ?? '') {
      case 'unknown-sender':
        return ' (no lease names this node)';
      case 'spoofed-source':
        return ` (this node may not speak for ${this.sourceText()})`;
      case 'ttl-exceeded':
        return ` (it gets there with a TTL of ${this.ttl})`;
      default:
        return '';
    }
  }

  /** flannel0 and the bridge have the first two addresses of a subnet. */
  private isNodesOwn(lease: string): boolean {
    const first = parseIpv4(lease.split('/')[0]);
    return first !== undefined && (this.spec.destination === first || this.spec.destination === first + 1);
  }

  private sourceText(): string {
    return this.source === undefined ? 'its source' : formatIpv4(this.source);
  }

  private packet(outDevice?: string): FilterPacket {
    const { destination, protocol, port } = this.spec;
    return {
      source: this.source ?? 0,
      destination,
      protocol,
      destinationPort: port,
      inDevice: this.inDevice,
      outDevice,
    };
  }

  private explanation(verdict: Explanation['verdict'], reason: string | null): Explanation {
    const { answer, inOverlay, account } = this;
    const hop = inOverlay && answer?.here.verdict === 'forwarded' ? (answer.here.nextHop ?? null) : this.gateway;
    return {
      source: this.sentFrom === undefined ? null : formatIpv4(this.sentFrom),
      destination: formatIpv4(this.spec.destination),
      direction: inOverlay ? 'encap' : 'local',
      verdict,
      reason,
      lease: (inOverlay && answer?.destination.lease?.subnet) || null,
      nextHop: hop,
      steps: account.steps,
    };
  }
}
