// Written by `make protocol` from protocol/messages.toml. Do not edit.

/** Version of the protocol, told in `hello`. */
export const PROTOCOL_VERSION = 1;

/** The WebSocket subprotocol. */
export const SUBPROTOCOL = "syncd.v1";

/** Shape `position` within messages. */
export interface Position {
  /** Incarnation of the channel's log; opaque, compared for equality only. At most 64 bytes. */
  epoch: string;
  /** Everything up to and with this offset. */
  offset: number;
}

/** Shape `client_claim` within messages. */
export interface ClientClaim {
  /** Client id from an earlier welcome. At most 64 bytes. */
  client: string;
  /** The secret issued with it. At most 128 bytes. */
  secret: string;
}

/** Shape `client_state` within messages. */
export interface ClientState {
  /** Client id this session speaks for. */
  client: string;
  /** Only for a client issued now: keep it, it is told once. */
  secret?: string | null | undefined;
  /** Last mutation of this client that took effect; 0 for none. */
  last_mid: number;
}

/** Shape `author` within messages. */
export interface Author {
  /** Client that published. */
  client: string;
  /** The mutation of this client that changed the entry; only where an event tells an entry (section 17). */
  mid?: number | null | undefined;
}

/** Shape `event_body` within messages. */
export interface EventBody {
  /** Where it happened. */
  channel: string;
  /** Absent on ephemeral channels. */
  epoch?: string | null | undefined;
  /** Offset of the event before it; on stream channels only. It must equal the client's own offset. */
  prev?: number | null | undefined;
  /** Its place in the channel; absent on ephemeral channels. */
  offset?: number | null | undefined;
  /** What kind of event, as the publisher named it. */
  name?: string | null | undefined;
  /** What the publisher sent. */
  data: unknown;
  /** Conflation and latest-value key. */
  key?: string | null | undefined;
  /** Who published; absent for backends. */
  by?: Author | null | undefined;
  /** Server wall clock at acceptance, ms since 1970. Never used for order. */
  at_ms: number;
}

/** Shape `entry` within messages. */
export interface Entry {
  /** Unique in its collection. */
  key: string;
  /** Offset of the entry's last change; of one that is not there, the offset up to which that is known. */
  version: number;
  /** Absent when `deleted`. */
  value?: unknown | null | undefined;
  /** true: there is no such entry. */
  deleted?: boolean | null | undefined;
}

/** Shape `have` within messages. */
export interface Have {
  /** Epoch that the versions belong to. At most 64 bytes. */
  epoch: string;
  /** key to version: what the client has. At most 1000 keys. */
  versions: Record<string, unknown>;
}

/** Shape `rejection` within messages. */
export interface Rejection {
  /** From the application, or one of the codes of section 18. */
  code: string;
  /** For people. */
  message: string;
}

/** Shape `progress` within messages. */
export interface Progress {
  /** Id of the job. */
  job: string;
  /** What it rebuilds. */
  collection: string;
  /** full | resume | keys | tag. */
  mode: string;
  /** Ascending within the job: what was told later is newer. */
  seq: number;
  /** queued | running | swapping | done | failed | cancelled; the last three are the end. */
  state: string;
  /** Who asked for it. */
  who: string;
  /** Server wall clock. */
  asked_at_ms: number;
  /** Server wall clock. */
  ended_at_ms?: number | null | undefined;
  /** Rows read. */
  done: number;
  /** Rows that were there when it began. */
  resumed_at: number;
  /** Rows there are, if that is known. */
  total?: number | null | undefined;
  /** Entries that it has changed; when done. */
  changed?: number | null | undefined;
  /** Rows a second. */
  rate_per_s: number;
  /** How long it may take yet. */
  eta_ms?: number | null | undefined;
  /** What it waits for. */
  message?: string | null | undefined;
  /** Why it failed. */
  error?: string | null | undefined;
}

/** Shape `member` within messages. */
export interface Member {
  /** User id, or client id for anonymous clients; unique in the channel. */
  member: string;
  /** User id; absent for anonymous clients. */
  user?: string | null | undefined;
  /** [{client, state}] - one item a client of this member, in order of arrival. */
  states: unknown[];
}

/** Body of the client's `hello`. */
export interface ClientHello {
  /** Protocol version: 1. */
  v: number;
  /** JWT. Never in the URL. At most 4096 bytes. */
  token?: string | null | undefined;
  /** Tabs of one user on one device share a group. At most 64 bytes. */
  group?: string | null | undefined;
  /** Leadership term within the group; a lower one than known may not mutate. */
  term?: number | null | undefined;
  /** Clients this session speaks for; none: one is issued. At most 64 items. */
  clients?: ClientClaim[] | null | undefined;
  /** channel to position: state read on this session is at least that new. At most 64 keys. */
  after?: Record<string, unknown> | null | undefined;
}

/** Body of the client's `auth`. */
export interface ClientAuth {
  /** Answered by ok or error with this id. */
  id: number;
  /** A newer token of the same user. At most 4096 bytes. */
  token: string;
}

/** Body of the client's `subscribe`. */
export interface ClientSubscribe {
  /** Answered by subscribed or error. */
  id: number;
  /** namespace:name. At most 255 bytes. */
  channel: string;
  /** Recover everything after it. */
  position?: Position | null | undefined;
  /** Also send presence_state and presence_diff. */
  presence?: boolean | null | undefined;
}

/** Body of the client's `unsubscribe`. */
export interface ClientUnsubscribe {
  /** Answered by ok or error. */
  id: number;
  /** namespace:name. At most 255 bytes. */
  channel: string;
}

/** Body of the client's `publish`. */
export interface ClientPublish {
  /** Answered by ok (with position where there is one) or error. */
  id: number;
  /** namespace:name. At most 255 bytes. */
  channel: string;
  /** Event name. At most 128 bytes. */
  name?: string | null | undefined;
  /** Any value within the bounds of the codec. */
  data: unknown;
  /** Conflation and latest-value key. At most 255 bytes. */
  key?: string | null | undefined;
  /** Idempotency key: the same uid and request takes effect once in 24 h. At most 128 bytes. */
  uid?: string | null | undefined;
}

/** Body of the client's `presence`. */
export interface ClientPresence {
  /** Answered by ok or error. */
  id: number;
  /** namespace:name; need not be subscribed. At most 255 bytes. */
  channel: string;
  /** Which client of this session; default the first. At most 64 bytes. */
  client?: string | null | undefined;
  /** This client's state, at most 4 KiB; nil or absent leaves. */
  state?: unknown | null | undefined;
}

/** Body of the client's `history`. */
export interface ClientHistory {
  /** Answered by ok {events, position} or error. */
  id: number;
  /** namespace:name. At most 255 bytes. */
  channel: string;
  /** Events after it; reverse: events before it. */
  since?: Position | null | undefined;
  /** At most this many events; 0 asks for the position alone. At most 1000. */
  limit: number;
  /** Newest first. */
  reverse?: boolean | null | undefined;
}

/** Body of the client's `mutate`. */
export interface ClientMutate {
  /** Which client of this session; default the first. At most 64 bytes. */
  client?: string | null | undefined;
  /** Number of the mutation, from 1, without gaps within its client. */
  mid: number;
  /** Mutator, `collection.name` for those of a collection. At most 160 bytes. */
  name: string;
  /** A map by name, a list by position, or nil. */
  args?: unknown | null | undefined;
}

/** Body of the client's `mutate_ack`. */
export interface ClientMutateAck {
  /** Which client of this session; default the first. At most 64 bytes. */
  client?: string | null | undefined;
  /** Outcomes up to this mid have arrived and need not be kept. */
  upto: number;
}

/** Body of the client's `watch`. */
export interface ClientWatch {
  /** Answered by watched or error. */
  id: number;
  /** Name of the collection. At most 64 bytes. */
  collection: string;
  /** Only these entries; all of one partition. At most 1000 items. */
  keys?: string[] | null | undefined;
  /** Every entry of a collection without partitions. */
  all?: boolean | null | undefined;
  /** Every entry of this partition. At most 128 bytes. */
  partition?: string | null | undefined;
  /** What the client has: entries that are still so are told as `unchanged`. */
  have?: Have | null | undefined;
  /** The client's view is complete up to here: only what came after it is sent, if that is possible. */
  position?: Position | null | undefined;
  /** channel to position: what is told is at least that new. At most 64 keys. */
  after?: Record<string, unknown> | null | undefined;
}

/** Body of the client's `unwatch`. */
export interface ClientUnwatch {
  /** Answered by ok or error. */
  id: number;
  /** Name of the collection. At most 64 bytes. */
  collection: string;
  /** Which partition, if it has partitions. At most 128 bytes. */
  partition?: string | null | undefined;
  /** Stop watching these only; absent: the whole watch ends. At most 1000 items. */
  keys?: string[] | null | undefined;
}

/** Body of the client's `read`. */
export interface ClientRead {
  /** Answered by ok {position, entries} or error. */
  id: number;
  /** Name of the collection. At most 64 bytes. */
  collection: string;
  /** All of one partition. At most 1000 items. */
  keys: string[];
  /** channel to position: what is told is at least that new. At most 64 keys. */
  after?: Record<string, unknown> | null | undefined;
}

/** Body of the client's `rebuild`. */
export interface ClientRebuild {
  /** Answered by ok with the job, or error; for operators. */
  id: number;
  /** Name of the collection. At most 64 bytes. */
  collection: string;
  /** full (also when absent) | resume | keys | tag. At most 16 bytes. */
  mode?: string | null | undefined;
  /** mode keys: which. At most 1000 items. */
  keys?: string[] | null | undefined;
  /** mode tag: which. At most 128 bytes. */
  tag?: string | null | undefined;
  /** If a job of the collection is under way, be answered with that one. */
  join?: boolean | null | undefined;
  /** Entries that the source does not have any more stay. */
  keep_missing?: boolean | null | undefined;
  /** Read no faster than this. */
  max_rows_per_s?: number | null | undefined;
  /** The job fails when it has not ended by then. */
  deadline_ms?: number | null | undefined;
  /** The same request again is answered with its job. At most 128 bytes. */
  uid?: string | null | undefined;
}

/** Body of the client's `rebuild_cancel`. */
export interface ClientRebuildCancel {
  /** Answered by ok with the job, or error; for operators. */
  id: number;
  /** Id of the job. At most 64 bytes. */
  job: string;
}

/** Body of the client's `probe`. */
export interface ClientProbe {
  /** Answered by pong with the same nonce. */
  nonce: number;
}

/** Body of the client's `pong`. */
export interface ClientPong {
  /** How old the last event that came since the last pong was when it had been applied; see section 4.4. */
  applied_age_ms?: number | null | undefined;
}

/** Body of the server's `welcome`. */
export interface ServerWelcome {
  /** Names this connection to operators and in logs. */
  session: string;
  /** In the order of hello.clients. */
  clients: ClientState[];
  /** Server wall clock. */
  server_time_ms: number;
  /** A ping comes this often; hear nothing for ping_ms + 10 s: reconnect. */
  ping_ms: number;
  /** Largest message the server accepts. */
  max_frame_bytes: number;
}

/** Body of the server's `ok`. */
export interface ServerOk {
  /** The request. */
  id: number;
  /** publish: where the event stands. history: the channel's top. */
  position?: Position | null | undefined;
  /** history only. */
  events?: EventBody[] | null | undefined;
  /** read only: one entry a key, in the order asked. */
  entries?: Entry[] | null | undefined;
  /** rebuild and rebuild_cancel only. */
  job?: Progress | null | undefined;
}

/** Body of the server's `error`. */
export interface ServerError {
  /** The request; absent when it could not be read. */
  id?: number | null | undefined;
  /** mutate only: the client, in place of an id. */
  client?: string | null | undefined;
  /** mutate only: the mutation that was not decided. */
  mid?: number | null | undefined;
  /** From codes.toml. */
  code: string;
  /** For people. */
  message: string;
  /** The same request may succeed later. */
  retryable: boolean;
  /** Wait at least this long. */
  after_ms?: number | null | undefined;
  /** rebuild_running only: the job under way. */
  job?: string | null | undefined;
}

/** Body of the server's `subscribed`. */
export interface ServerSubscribed {
  /** The request; absent when the server re-established a subscription itself. */
  id?: number | null | undefined;
  /** namespace:name. */
  channel: string;
  /** Adopt this; absent on ephemeral channels. After it come live events (recovered ones first, see SPEC). */
  position?: Position | null | undefined;
  /** A position was given. */
  was_recovering: boolean;
  /** Everything after it is in events or follows as event frames. */
  recovered: boolean;
  /** Missed events in order; on latest channels without recovery the whole present state. */
  events: EventBody[];
}

/** Body of the server's `unsubscribed`. */
export interface ServerUnsubscribed {
  /** namespace:name. */
  channel: string;
  /** A reason from codes.toml. */
  code: string;
  /** For people. */
  reason: string;
}

/** Body of the server's `event`. */
export type ServerEvent = EventBody;

/** Body of the server's `outcome`. */
export interface ServerOutcome {
  /** Whose mutation. */
  client: string;
  /** Which. */
  mid: number;
  /** ok, rejected, or unknown (decided before, but no longer kept). */
  status: string;
  /** ok only: what the mutator returned, if anything. */
  value?: unknown | null | undefined;
  /** rejected only. */
  error?: Rejection | null | undefined;
  /** channel to position: where its effect is visible. */
  positions: Record<string, unknown>;
}

/** Body of the server's `out_of_order`. */
export interface ServerOutOfOrder {
  /** Whose mutation. */
  client: string;
  /** Send this mid, and those after it. */
  expect: number;
}

/** Body of the server's `watched`. */
export interface ServerWatched {
  /** The request. */
  id: number;
  /** The collection, or collection/partition: where its events come. */
  channel: string;
  /** Entries told are at least this new; everything after it comes as events. */
  position: Position;
  /** The position of the request could be gone on from: what was missed follows as events, and the view is not replaced. */
  recovered: boolean;
  /** Those that the client has not, or not so. */
  entries: Entry[];
  /** Keys whose entry is as in `have`. */
  unchanged: string[];
  /** Further entries follow in `snapshot` messages. */
  more: boolean;
  /** client to mid: what these entries, told or unchanged, are as of. Clients of this session only. */
  decided?: Record<string, unknown> | null | undefined;
}

/** Body of the server's `snapshot`. */
export interface ServerSnapshot {
  /** The watch request. */
  id: number;
  /** As in watched. */
  channel: string;
  /** More entries; an entry older than what the client has of its key does not count. */
  entries: Entry[];
  /** Keys whose entry is as in `have`. */
  unchanged: string[];
  /** false: the view is complete. */
  more: boolean;
  /** As in watched, for the entries of this page. */
  decided?: Record<string, unknown> | null | undefined;
}

/** Body of the server's `invalidate`. */
export interface ServerInvalidate {
  /** The collection, or collection/partition. */
  channel: string;
  /** As in event. */
  epoch: string;
  /** Its place in the channel, as of any event. */
  offset: number;
  /** Entries that may have changed at their source. */
  keys?: string[] | null | undefined;
  /** Entries with any of these tags may have. */
  tags?: string[] | null | undefined;
  /** true: any entry may have. */
  all?: boolean | null | undefined;
  /** What whoever invalidated said of it. */
  cause?: string | null | undefined;
  /** As in event. */
  at_ms: number;
}

/** Body of the server's `mark`. */
export interface ServerMark {
  /** namespace:name. */
  channel: string;
  /** Everything up to here has been sent or superseded. */
  position: Position;
}

/** Body of the server's `lagged`. */
export interface ServerLagged {
  /** Delivery stopped; subscribe again from the last position. */
  channel: string;
  /** Last position that was queued. */
  position?: Position | null | undefined;
}

/** Body of the server's `presence_state`. */
export interface ServerPresenceState {
  /** namespace:name. */
  channel: string;
  /** Diffs with a higher seq apply on top. */
  seq: number;
  /** All members, in order of arrival. */
  members: Member[];
}

/** Body of the server's `presence_diff`. */
export interface ServerPresenceDiff {
  /** namespace:name. */
  channel: string;
  /** One more than the one before. */
  seq: number;
  /** Members that came. */
  joins: Member[];
  /** Members whose states changed; the new whole. */
  updates: Member[];
  /** Member ids that went. */
  leaves: unknown[];
}

/** Body of the server's `reset`. */
export interface ServerReset {
  /** channel, client or all. */
  scope: string;
  /** With scope channel. */
  channel?: string | null | undefined;
  /** With scope client. */
  client?: string | null | undefined;
  /** A reason from codes.toml. */
  code: string;
}

/** Body of the server's `ping`. */
export type ServerPing = Record<string, never>;

/** Body of the server's `pong`. */
export interface ServerPong {
  /** Of the probe. */
  nonce?: number | null | undefined;
}

/** Body of the server's `bye`. */
export interface ServerBye {
  /** The close code that follows. */
  code: number;
  /** For people. */
  reason: string;
  /** Come back. */
  reconnect: boolean;
  /** Not before this. */
  after_ms: number;
}

/** Bodies of what a client sends, by type. */
export interface ClientBodies {
  hello: ClientHello;
  auth: ClientAuth;
  subscribe: ClientSubscribe;
  unsubscribe: ClientUnsubscribe;
  publish: ClientPublish;
  presence: ClientPresence;
  history: ClientHistory;
  mutate: ClientMutate;
  mutate_ack: ClientMutateAck;
  watch: ClientWatch;
  unwatch: ClientUnwatch;
  read: ClientRead;
  rebuild: ClientRebuild;
  rebuild_cancel: ClientRebuildCancel;
  probe: ClientProbe;
  pong: ClientPong;
}

/** Bodies of what a server sends, by type. */
export interface ServerBodies {
  welcome: ServerWelcome;
  ok: ServerOk;
  error: ServerError;
  subscribed: ServerSubscribed;
  unsubscribed: ServerUnsubscribed;
  event: ServerEvent;
  outcome: ServerOutcome;
  out_of_order: ServerOutOfOrder;
  watched: ServerWatched;
  snapshot: ServerSnapshot;
  invalidate: ServerInvalidate;
  mark: ServerMark;
  lagged: ServerLagged;
  presence_state: ServerPresenceState;
  presence_diff: ServerPresenceDiff;
  reset: ServerReset;
  ping: ServerPing;
  pong: ServerPong;
  bye: ServerBye;
}
