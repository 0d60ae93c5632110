/** What was measured of a step. */
export interface Row {
  readonly name: string;
  /** For one packet, lookup or checksum. */
  readonly nanoseconds: number;
  readonly marginPercent: number;
  /** Allocated for one; in TypeScript, left to the garbage collector. */
  readonly bytes: number;
}
