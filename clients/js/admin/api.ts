/** The HTTP API as an operator's page asks it. */

/** An answer that is no success; `code` is the contract, the message is for people. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** How long an answer may take. */
const PATIENCE_MS = 20_000;

/** Asks under a token, and says when it is not taken any more. */
export class Api {
  readonly #token: () => string | null;
  readonly #onRefused: () => void;

  constructor(token: () => string | null, onRefused: () => void) {
    this.#token = token;
    this.#onRefused = onRefused;
  }

  get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return this.#ask("GET", text === "" ? path : `${path}?${text}`, undefined, signal);
  }

  post<T>(path: string, body: unknown): Promise<T> {
    return this.#ask("POST", path, body);
  }

  delete<T>(path: string): Promise<T> {
    return this.#ask("DELETE", path, undefined);
  }

  async #ask<T>(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    const token = this.#token();
    try {
      return await ask<T>(method, path, token, body, signal);
    } catch (error) {
      const isOver = error instanceof ApiError && (error.status === 401 || error.status === 403);
      if (isOver && error.code !== "permission_denied" && token === this.#token()) this.#onRefused();
      throw error;
    }
  }
}

/** Fields of a query; those without a value are left out. */
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Ask once. Throws `ApiError`, or what `fetch` throws. */
export async function ask<T>(
  method: string,
  path: string,
  token: string | null,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  const headers: Record<string, string> = {};
  if (token !== null) headers["Authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const late = AbortSignal.timeout(PATIENCE_MS);
  const answer = await fetch(`/api/${path}`, {
    method,
    headers,
    cache: "no-store",
    credentials: "omit",
    signal: signal === undefined ? late : AbortSignal.any([signal, late]),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (answer.ok) return (await answer.json()) as T;
  const told = (await answer.json().catch(() => null)) as {
    error?: { code: string; message: string };
  } | null;
  const { code = "unknown", message = `The server answered ${answer.status}.` } = told?.error ?? {};
  throw new ApiError(answer.status, code, message);
}
