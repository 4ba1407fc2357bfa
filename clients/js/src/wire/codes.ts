// Written by `make protocol` from protocol/codes.toml. Do not edit.

/** Close codes: 4000-4499 reconnect, 4500-4999 stop. */
export const CLOSE_CODES = {
  going_away: 4000,
  slow_client: 4001,
  ping_timeout: 4002,
  internal_error: 4003,
  overloaded: 4004,
  too_many_requests: 4005,
  hello_timeout: 4006,
  reconnect: 4007,
  unauthorized: 4401,
  protocol_error: 4500,
  unsupported_version: 4501,
  too_many_errors: 4502,
  disconnected: 4503,
  taken_over: 4504,
  client_denied: 4505,
} as const;

/** One of `CLOSE_CODES`. */
export type CloseCode = (typeof CLOSE_CODES)[keyof typeof CLOSE_CODES];

/** Codes of `error.code`; a newer server may send others. */
export type ErrorCode =
  | "bad_message"
  | "unknown_type"
  | "bad_request"
  | "bad_channel"
  | "unauthorized"
  | "permission_denied"
  | "client_denied"
  | "already_subscribed"
  | "not_subscribed"
  | "not_supported"
  | "too_large"
  | "limit_exceeded"
  | "idempotency_mismatch"
  | "bad_key"
  | "not_watched"
  | "stale_term"
  | "load_failed"
  | "load_timeout"
  | "bad_source"
  | "behind"
  | "rebuild_running"
  | "unrecoverable_position"
  | "rate_limited"
  | "overloaded"
  | "store_unavailable"
  | "internal_error"
  | "shutting_down";

/** Codes of `outcome.error.code` that are the server's own. */
export type RejectionCode =
  | "permission_denied"
  | "unknown_mutator"
  | "bad_arguments"
  | "bad_key"
  | "too_large"
  | "version_mismatch"
  | "not_a_number"
  | "out_of_range"
  | "mutator_failed"
  | "mutator_timeout"
  | "source_owned"
  | "bad_source";

/** Codes of `unsubscribed.code` and `reset.code`. */
export type Reason =
  | "unsubscribed"
  | "revoked"
  | "expired"
  | "epoch_changed"
  | "client_unknown";
