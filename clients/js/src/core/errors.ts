/** What the client rejects promises with on purpose. */

/** Root of what this client throws. */
export class ClientError extends Error {
  override readonly name: string = "ClientError";
}

/** The server refused one request; the connection goes on. */
export class RequestFailed extends ClientError {
  override readonly name: string = "RequestFailed";
  /** From `protocol/codes.toml`; a newer server may send one that this client does not know. */
  readonly code: string;
  /** The same request may succeed later, unchanged. */
  readonly retryable: boolean;
  /** Wait at least this long before trying again; null when the server named no time. */
  readonly afterMs: number | null;

  constructor(code: string, message: string, retryable = false, afterMs: number | null = null) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.afterMs = afterMs;
  }
}

/** The server told this client not to come back. */
export class ConnectionStopped extends ClientError {
  override readonly name: string = "ConnectionStopped";
  /** Close code, 4500-4999, or 4401 when no token can be had. */
  readonly code: number;

  constructor(code: number, reason: string) {
    super(reason || `The server ended the connection for good (${code}).`);
    this.code = code;
  }
}

/** The client was closed before the answer came; whether the request took effect is unknown. */
export class ClientClosed extends ClientError {
  override readonly name: string = "ClientClosed";

  constructor() {
    super("The client was closed.");
  }
}

/** A mutation did not take effect, or nobody can say whether it did. */
export class MutationFailed extends ClientError {
  override readonly name = "MutationFailed";
  /** `rejected`: nothing changed. `unknown`: it was sent, and its outcome is lost. `unsent`: taken back, or the client ended, before. */
  readonly status: "rejected" | "unknown" | "unsent";
  /** `rejected` only: the application's, or one of SPEC section 18; else null. */
  readonly code: string | null;

  constructor(status: "rejected" | "unknown" | "unsent", code: string | null, message: string) {
    super(message || `The mutation ended: ${code ?? status}.`);
    this.status = status;
    this.code = code;
  }
}
