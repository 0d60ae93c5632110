import { LATENCY_MEASURES } from './latency.js';
import type { Measure } from './measure.js';
import { SUBNET_MEASURES } from './subnets.js';
import { TCP_MEASURES } from './tcp.js';
import { UDP_MEASURES } from './udp.js';

/** What is measured unless asked otherwise, in the order of the reports. */
export const MEASURES: readonly Measure[] = [...TCP_MEASURES, ...UDP_MEASURES, ...LATENCY_MEASURES];

/** What is measured only when it is asked for. */
export const OPTIONAL_MEASURES: readonly Measure[] = SUBNET_MEASURES;
