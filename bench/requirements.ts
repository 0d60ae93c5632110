/** What a run needs of the machine, looked at before anything is built. */
import { LAB_PROGRAMS, requireLabMachine } from '../src/lab/requirements.js';

/** @throws FlannelError `LAB`, one line with all that is missing */
export function requireBenchMachine(): void {
  requireLabMachine([...LAB_PROGRAMS, 'iperf3', 'ethtool', 'c++']);
}
