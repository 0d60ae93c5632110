/** The overlay's MTU: what is left of the underlay's after the outer headers. */
import { FlannelError } from '../../errors.js';
import type { ExternalInterface } from '../../host/external-interface.js';
import { IPV4_MIN_MTU_BYTES, UDP_OVERHEAD_BYTES } from '../../packet/ipv4.js';

/** The MTU to use, and a line for the operator when it is not the one that was asked for. */
export interface OverlayMtu {
  readonly mtuBytes: number;
  readonly warning?: string;
}

/**
 * Takes what was asked for (by flag or configuration) so long as it fits into the interface's MTU less 28 bytes. What
 * is larger is brought down, with a warning, rather than refused: the configuration is one for all nodes, and a node
 * with a narrow link had better serve its pods with the MTU that works there.
 * @throws FlannelError `BACKEND` when what is asked for, or what the interface leaves, is below IPv4's minimum of 68
 */
export function overlayMtu(external: ExternalInterface, askedBytes: number | undefined): OverlayMtu {
  const fitsBytes = external.mtuBytes - UDP_OVERHEAD_BYTES;
  if (fitsBytes < IPV4_MIN_MTU_BYTES) {
    throw new FlannelError(
      'BACKEND',
      `the MTU of ${external.name} is ${external.mtuBytes}, too small for the udp backend: ` +
        `raise it to at least ${IPV4_MIN_MTU_BYTES + UDP_OVERHEAD_BYTES}`,
    );
  }
  if (askedBytes === undefined) return { mtuBytes: fitsBytes };
  if (askedBytes < IPV4_MIN_MTU_BYTES) {
    throw new FlannelError(
      'BACKEND',
      `an overlay MTU of ${askedBytes} is below IPv4's minimum: ask for ${IPV4_MIN_MTU_BYTES} to ${fitsBytes}`,
    );
  }
  if (askedBytes <= fitsBytes) return { mtuBytes: askedBytes };
  return {
    mtuBytes: fitsBytes,
    warning:
      `an overlay MTU of ${askedBytes} does not fit: ${external.name} carries ${external.mtuBytes} bytes, ` +
      `${UDP_OVERHEAD_BYTES} of which are outer headers; ${fitsBytes} is used`,
  };
}
