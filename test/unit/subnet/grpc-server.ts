/** A server that speaks etcd's gRPC services, and answers what a test wants. */
import { credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Host } from 'etcd3/lib/connection-pool.js';
import type { ServiceName } from '../../../src/subnet/etcd/link.js';

export interface GrpcServer {
  readonly endpoint: string;
  close(): void;
}

/** @param services - what to answer, by service and method: `{ KV: { range: (call, done) => … } }` */
export function startEtcdLike(
  services: Readonly<Partial<Record<ServiceName, UntypedServiceImplementation>>>,
): Promise<GrpcServer> {
  return startGrpcServer(
    Object.entries(services).map(([name, implementation]) => [definitionOf(name as ServiceName), implementation]),
  );
}

export async function startGrpcServer(
  services: readonly (readonly [ServiceDefinition, UntypedServiceImplementation])[],
): Promise<GrpcServer> {
  const server = new Server();
  for (const [definition, implementation] of services) server.addService(definition, implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { endpoint: `http://127.0.0.1:${port}`, close: () => server.forceShutdown() };
}

/** etcd3 keeps etcd's definitions in its clients. */
function definitionOf(name: ServiceName): ServiceDefinition {
  const host = new Host('127.0.0.1:1', credentials.createInsecure());
  try {
    return (host.getServiceClient(name).constructor as unknown as { service: ServiceDefinition }).service;
  } finally {
    host.close();
  }
}
