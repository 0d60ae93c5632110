/**
 * Where agents tell each other of probes (`flannelctl probe`): one puts up a *call*, those whom it concerns answer with
 * *reports*. Both are text that anybody who may write to the store can have written, and are read as such. All of a call
 * is gone when its caller has ended it, or when its time is over, whoever is still alive then.
 */
export interface ProbeBoard {
  /**
   * Puts up a call, which every agent sees at once.
   * @throws FlannelError `STORE`
   */
  call(text: string, ttlSeconds: number, signal: AbortSignal): Promise<PostedCall>;

  /** Tells of every call, of those that are up already first, until the signal aborts. Never rejects. */
  watchCalls(watcher: CallWatcher, signal: AbortSignal): Promise<void>;

  /**
   * Answers a call; `name` tells this node's reports apart, a later one of the same name replaces the earlier.
   * @throws FlannelError `STORE`
   */
  report(call: HeardCall, node: string, name: string, text: string, signal: AbortSignal): Promise<void>;
}

/** A call that this process has put up. */
export interface PostedCall {
  readonly id: string;
  /** Tells of every report since the call was put up, until the signal aborts. @throws FlannelError `STORE` */
  watchReports(handle: (report: ProbeReport) => void, signal: AbortSignal): Promise<void>;
  /** Takes the call and all its reports down. Never rejects. */
  end(): Promise<void>;
}

/** An answer to a call. */
export interface ProbeReport {
  /** Who says that it is his. */
  readonly node: string;
  readonly name: string;
  readonly text: string;
}

/** A call as an agent hears of it. */
export interface HeardCall {
  readonly id: string;
  readonly text: string;
  /** What keeps it up in the store: reports end with it. */
  readonly storeLease: string;
}

export interface CallWatcher {
  called(call: HeardCall): void;
  /** The call is down. */
  ended(id: string): void;
  /** A key where there should be none, a call that would stay for ever, or text that is too long. */
  ignored(key: string): void;
}
