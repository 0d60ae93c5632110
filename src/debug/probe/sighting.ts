/**
 * What agents report to a call: that they watch, what they saw, and what their host would do with it. Written to the store
 * by one agent and read by another, which takes nothing on trust: what does not have the exact form is no report.
 */
import { formatIpv4, parsePrefix } from '../../packet/address.js';
import { addressOf, integerOf, MAX_CALL_PACKETS, parseObject } from './probe-call.js';
import { ANSWERS, type Answer } from './probe-packet.js';

/** One packet of the call, or an answer to it, at one agent. */
export interface Sighting {
  readonly packet: number;
  readonly leg: 'request' | 'reply';
  readonly direction: 'encap' | 'decap';
  /** A drop reason's name; `null`: it went on. */
  readonly reason: string | null;
  /** Receiver of the datagram on the way out, its sender on the way in; `null` where there was none yet. */
  readonly peer: string | null;
  readonly lease: string | null;
  /** Of a reply. */
  readonly answer: Answer | null;
  readonly answerFrom: string | null;
  /** ISO 8601 in UTC, by the clock of the agent. */
  readonly time: string;
}

/** That an agent has its eyes open. */
export interface Presence {
  /** Its own subnet, by its own account. */
  readonly subnet: string;
  /** What troubles the agent; `null` when it is well. */
  readonly trouble: string | null;
}

/** What the host of an agent would do with a packet that the agent delivered and nobody answered. */
export interface KernelFinding {
  /** A reason of `flannelctl explain`, or `no-neighbour`; `null` when nothing speaks against it. */
  readonly reason: string | null;
  readonly fact: string;
}

const MAX_TEXT_LENGTH = 1024;
const MAX_WORDS = 300;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/;
/** Reasons of other releases are none that this one knows. */
const REASON = /^[a-z][a-z0-9-]{0,39}$/;
const PEER = /^([0-9.]{7,15}):([0-9]{1,5})$/;

/** As it stands on the board; {@link parseSighting} reads it. */
export function formatSighting(sighting: Sighting): string {
  return JSON.stringify(sighting);
}

/** `undefined` for what is none; never throws. */
export function parseSighting(text: string): Sighting | undefined {
  const fields = parseObject(text, MAX_TEXT_LENGTH);
  if (fields === undefined) return undefined;
  const packet = integerOf(fields.packet, 0, MAX_CALL_PACKETS - 1);
  const { leg, direction, time } = fields;
  if (packet === undefined || typeof time !== 'string' || !TIME.test(time)) return undefined;
  if ((leg !== 'request' && leg !== 'reply') || (direction !== 'encap' && direction !== 'decap')) return undefined;
  const reason = nullOr(fields.reason, reasonOf);
  const peer = nullOr(fields.peer, peerOf);
  const lease = nullOr(fields.lease, leaseOf);
  const answer = nullOr(fields.answer, answerOf);
  const answerFrom = nullOr(fields.answerFrom, ownAddressOf);
  if ([reason, peer, lease, answer, answerFrom].includes(undefined)) return undefined;
  return { packet, leg, direction, reason, peer, lease, answer, answerFrom, time } as Sighting;
}

/** As it stands on the board; {@link parsePresence} reads it. */
export function formatPresence(presence: Presence): string {
  return JSON.stringify({ ...presence, trouble: presence.trouble?.slice(0, MAX_WORDS) ?? null });
}

/** `undefined` for what is none; never throws. */
export function parsePresence(text: string): Presence | undefined {
  const fields = parseObject(text, MAX_TEXT_LENGTH);
  const subnet = leaseOf(fields?.subnet);
  const trouble = nullOr(fields?.trouble, wordsOf);
  return subnet === undefined || trouble === undefined ? undefined : { subnet, trouble };
}

/** As it stands on the board; {@link parseFinding} reads it. */
export function formatFinding(finding: KernelFinding): string {
  return JSON.stringify({ ...finding, fact: finding.fact.slice(0, MAX_WORDS) });
}

/** `undefined` for what is none; never throws. */
export function parseFinding(text: string): KernelFinding | undefined {
  const fields = parseObject(text, MAX_TEXT_LENGTH);
  const reason = nullOr(fields?.reason, reasonOf);
  const fact = wordsOf(fields?.fact);
  return reason === undefined || fact === undefined ? undefined : { reason, fact };
}

function nullOr<T>(value: unknown, read: (value: unknown) => T | undefined): T | null | undefined {
  return value === null ? null : read(value);
}

function reasonOf(value: unknown): string | undefined {
  return typeof value === 'string' && REASON.test(value) ? value : undefined;
}

function peerOf(value: unknown): string | undefined {
  const match = typeof value === 'string' ? PEER.exec(value) : null;
  const address = addressOf(match?.[1]);
  return match === null || address === undefined || Number(match[2]) > 0xffff
    ? undefined
    : `${formatIpv4(address)}:${Number(match[2])}`;
}

function leaseOf(value: unknown): string | undefined {
  return typeof value === 'string' && parsePrefix(value) !== undefined ? value : undefined;
}

function ownAddressOf(value: unknown): string | undefined {
  return addressOf(value) === undefined ? undefined : (value as string);
}

function answerOf(value: unknown): Answer | undefined {
  return ANSWERS.find((answer) => answer === value);
}

/** Words for people, without what could steer a terminal. */
function wordsOf(value: unknown): string | undefined {
  if (typeof value !== 'string' || value.length > MAX_WORDS) return undefined;
  return value.replace(/[^\x20-\x7e\u00a0-\u{10ffff}]+/gu, ' ');
}
