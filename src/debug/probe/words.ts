import type { Answer } from './probe-packet.js';
import type { Sighting } from './sighting.js';

const ANSWER_WORDS: Readonly<Record<Answer, string>> = {
  'echo-reply': 'echo reply',
  'udp-reply': 'a datagram in reply',
  'syn-ack': 'SYN-ACK: the port is open',
  rst: 'RST: the port is closed',
  'port-unreachable': 'ICMP port unreachable: nobody listens at the port',
  'protocol-unreachable': 'ICMP protocol unreachable',
  rejected: 'an ICMP error as firewalls send it',
  'host-unreachable': 'ICMP host unreachable',
  'net-unreachable': 'ICMP net unreachable',
  'fragmentation-needed': 'ICMP fragmentation needed',
  'ttl-exceeded': 'ICMP time exceeded',
};

/** An answer for people: `echo reply`, `ICMP host unreachable of 10.5.2.0`. */
export function wordAnswer({ answer, answerFrom }: Pick<Sighting, 'answer' | 'answerFrom'>): string {
  if (answer === null) return '';
  const words = ANSWER_WORDS[answer];
  return answerFrom === null || !words.includes('ICMP') ? words : `${words} (of ${answerFrom})`;
}
