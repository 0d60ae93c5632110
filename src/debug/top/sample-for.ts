/** Records a second that cost neither the agent nor flannelctl much, and tell shares to some per cent. */
const RECORDS_PER_SECOND = 5000;

/**
 * Of how many packets to look at one, so that there are not too many to look at.
 * @param packets - that were handled in the last `seconds`; fewer than before when the daemon was started again
 */
export function sampleFor(packets: number, seconds: number): number {
  return Math.max(1, Math.round(Math.max(0, packets) / seconds / RECORDS_PER_SECOND));
}
