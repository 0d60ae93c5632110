import type { ExplainAnswer } from '../../observe/control-protocol.js';
import type { HostView } from './host-view.js';
import type { PacketSpec } from './packet-spec.js';

/** What the ways of a packet share. */
export interface ExplainScene {
  readonly host: HostView;
  /** The overlay device. */
  readonly device: string;
  readonly deviceMtuBytes: number;
  readonly port: number;
  /** Name and address of the external interface. */
  readonly external: { readonly name: string; readonly address: number; readonly mtu: number };
  /** Set when others know this node under another address than that. */
  readonly natAddress?: string;
  /** Asks the dataplane about the packet, `changes` applied. */
  ask(spec: PacketSpec, source: number): Promise<ExplainAnswer>;
}
