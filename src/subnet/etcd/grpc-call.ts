/** gRPC as etcd is called with it: one call with a limit and a signal, and the settings of a channel. */
import { Metadata, status } from '@grpc/grpc-js';
import type { CallOptions, ChannelOptions, Client, ServiceError } from '@grpc/grpc-js';
import type { EtcdTarget, EtcdTimings } from './options.js';

type UnaryMethod = (
  request: unknown,
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, response: unknown) => void,
) => { cancel(): void };

/** Makes one unary call to etcd; cancelled when the signal is aborted. Rejects with gRPC's `ServiceError`. */
export function unary(
  client: Client,
  method: string,
  request: unknown,
  metadata: Metadata,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const cancel = () => call.cancel();
    const send = (client as unknown as Record<string, UnaryMethod>)[method].bind(client);
    const call = send(request, metadata, { deadline: Date.now() + timeoutMs }, (error, response) => {
      signal.removeEventListener('abort', cancel);
      if (error === null) resolve(response);
      else reject(error);
    });
    signal.addEventListener('abort', cancel, { once: true });
  });
}

/** The settings of every channel to etcd. */
export function grpcOptions(timings: EtcdTimings, { serverName }: EtcdTarget): ChannelOptions {
  return {
    // Listings come in pages, and etcd 3.4 sends what a watch has to tell in pieces of 2 MB; earlier ones send it whole.
    'grpc.max_receive_message_length': 16 * 1024 * 1024,
    'grpc.keepalive_time_ms': timings.keepaliveMs,
    'grpc.keepalive_timeout_ms': timings.keepaliveTimeoutMs,
    // A connection that two channels share could not be given up by one of them.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_channelz': 0,
    // An etcd is a neighbour: no proxy of the environment, and no service configuration from DNS.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    ...(serverName === undefined ? {} : { 'grpc.ssl_target_name_override': serverName }),
  };
}

/** What gRPC would throw for an endpoint that cannot be reached. */
export function unreachable(details: string): ServiceError {
  return serviceError(status.UNAVAILABLE, details);
}

/** What gRPC would throw. */
export function serviceError(code: status, details: string): ServiceError {
  return Object.assign(new Error(details), { code, details, metadata: new Metadata() });
}
