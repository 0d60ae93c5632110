import { errorMessage } from '../errors.js';
import type { Logger } from '../log.js';

/**
 * Sends one datagram to a unix socket, with copies of descriptors; a leading `@` names the abstract namespace. Throws when
 * that fails.
 */
export type DatagramSender = (path: string, message: string, fds?: readonly number[]) => void;

/**
 * Tells systemd how the service is doing, by the protocol of sd_notify(3). Without `NOTIFY_SOCKET` every call does
 * nothing, and so does a systemd that does not listen: the agent does not depend on being watched.
 */
export class ServiceNotifier {
  readonly #path: string;
  readonly #send: DatagramSender;
  readonly #logger: Logger;
  #watchdog: NodeJS.Timeout | undefined;
  #status = '';
  #failed = false;

  private constructor(path: string, send: DatagramSender, logger: Logger) {
    this.#path = path;
    this.#send = send;
    this.#logger = logger;
  }

  /** A notifier for this environment; `undefined` when nobody wants to know. */
  static create(
    environment: Readonly<Record<string, string | undefined>>,
    send: DatagramSender,
    logger: Logger,
  ): ServiceNotifier | undefined {
    const path = environment.NOTIFY_SOCKET;
    if (path === undefined || (!path.startsWith('/') && !path.startsWith('@'))) return undefined;
    const notifier = new ServiceNotifier(path, send, logger);
    notifier.#startWatchdog(environment);
    return notifier;
  }

  /** Packets flow and subnet.env is written. */
  ready(status: string): void {
    this.#status = status;
    this.#notify(`READY=1\nSTATUS=${oneLine(status)}`);
  }

  /** One line for `systemctl status`. Sent only when it changes. */
  status(text: string): void {
    if (text === this.#status) return;
    this.#status = text;
    this.#notify(`STATUS=${oneLine(text)}`);
  }

  /** The stop has begun; nothing is sent after this. */
  stopping(): void {
    clearInterval(this.#watchdog);
    this.#notify('STOPPING=1\nSTATUS=stopping');
  }

  /** sd_watchdog_enabled(3): a sign of life at half the time, if it is this process that is watched. */
  #startWatchdog(environment: Readonly<Record<string, string | undefined>>): void {
    const microseconds = Number(environment.WATCHDOG_USEC);
    const pid = environment.WATCHDOG_PID;
    if (!Number.isSafeInteger(microseconds) || microseconds <= 0) return;
    if (pid !== undefined && pid !== '' && Number(pid) !== process.pid) return;
    const everyMs = Math.max(1, Math.min(Math.floor(microseconds / 2000), 2 ** 31 - 1));
    this.#notify('WATCHDOG=1');
    this.#watchdog = setInterval(() => this.#notify('WATCHDOG=1'), everyMs);
    this.#watchdog.unref();
  }

  #notify(message: string): void {
    try {
      this.#send(this.#path, message);
      this.#failed = false;
    } catch (error) {
      if (!this.#failed)
        this.#logger.warn('systemd could not be notified', { socket: this.#path, error: errorMessage(error) });
      this.#failed = true;
    }
  }
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ');
}
