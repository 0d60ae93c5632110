/** Namespaces for the time of a test. */
import { Namespace, removeNamespaces } from '../../src/lab/namespace.js';

/**
 * Makes namespaces `prefix-name` for the time of `body`, and removes them whatever comes of it:
 * `await withNamespaces('fl-mtu', ['node1', 'node2'], async ({ node1, node2 }) => { … })`.
 */
export async function withNamespaces<Name extends string>(
  prefix: string,
  names: readonly Name[],
  body: (namespaces: Record<Name, Namespace>) => Promise<void> | void,
): Promise<void> {
  const made: Namespace[] = [];
  try {
    const byName = {} as Record<Name, Namespace>;
    for (const name of names) {
      const namespace = await Namespace.create(`${prefix}-${name}`);
      made.push(namespace);
      byName[name] = namespace;
    }
    await body(byName);
  } finally {
    await removeNamespaces(made);
  }
}
