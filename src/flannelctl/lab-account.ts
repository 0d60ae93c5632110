import type { Sighting, Trip } from '../lab/exercise.js';
import type { Paint } from './paint.js';
import { formatTable } from './table.js';

/** A trip as a person reads it: what was done, what came of it, and where its packets were seen. */
export function describeTrip(trip: Trip, paint: Paint): string[] {
  const mark = trip.ok ? paint.good('ok') : paint.bad('FAILED');
  return [
    `${paint.strong(`${trip.from} → ${trip.to}`)}  ${trip.title}`,
    `  ${mark}: ${trip.outcome}`,
    ...(trip.sightings.length === 0 ? [] : sightingTable(trip.sightings, paint)).map((line) => `  ${line}`),
    ...trip.lines.map((line) => `  ${line}`),
  ];
}

function sightingTable(sightings: readonly Sighting[], paint: Paint): string[] {
  const rows = sightings.map((one) => [one.place, one.device, String(one.packets), verdict(one)]);
  return formatTable(
    [{ title: 'SEEN ON' }, { title: 'DEVICE' }, { title: 'PACKETS', align: 'right' }, { title: 'THE FIRST OF THEM' }],
    rows,
    paint,
    (row, column, text) => {
      if (!sightings[row].ok) return column >= 2 ? paint.bad(text) : text;
      return sightings[row].expected ? text : paint.faint(text);
    },
  );
}

function verdict({ ok, expected, packets, sample }: Sighting): string {
  if (expected)
    return packets === 0 ? 'nothing: they should pass here' : `${sample}${ok ? '' : ' (not as it should be)'}`;
  return ok ? 'nothing, as it should be' : `${sample} (should not pass here)`;
}

/** All trips in one table. */
export function summarise(trips: readonly Trip[], paint: Paint): string[] {
  const rows = trips.map((trip) => [trip.ok ? 'ok' : 'FAILED', `${trip.from} → ${trip.to}`, trip.title, seenOn(trip)]);
  return formatTable(
    [{ title: 'RESULT' }, { title: 'TRIP' }, { title: 'WHAT' }, { title: 'WAY' }],
    rows,
    paint,
    (row, column, text) => (column === 0 ? (trips[row].ok ? paint.good(text) : paint.bad(text)) : text),
  );
}

/** Where a trip's packets were seen: `node1 cni0 flannel0 eth0 | node2 eth0 flannel0 cni0`. */
function seenOn(trip: Trip): string {
  const seen = trip.sightings.filter((sighting) => sighting.packets > 0);
  if (seen.length === 0) return trip.outcome;
  const places = [...new Set(seen.map((sighting) => sighting.place))];
  return places
    .map((place) =>
      seen
        .filter((sighting) => sighting.place === place)
        .map((sighting) => sighting.device)
        .join(' '),
    )
    .join(' │ ');
}
