/** What the bodies of requests on the control socket are read with. */
import { UsageError, errorMessage } from '../errors.js';

/** @throws UsageError for what is no JSON object */
export function readJsonObject(body: string): Partial<Record<string, unknown>> {
  let request: unknown;
  try {
    request = JSON.parse(body);
  } catch (error) {
    throw new UsageError(`the request is no JSON: ${errorMessage(error)}`);
  }
  if (typeof request !== 'object' || request === null) throw new UsageError('the request is no JSON object');
  return request;
}

/** @throws UsageError naming the field */
export function readInteger(name: string, value: unknown, from: number, to: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < from || value > to) {
    throw new UsageError(`"${name}" is no integer from ${from} to ${to}`);
  }
  return value;
}
