/**
 * The same work with Replicache in memory (`kvStore: "mem"`), its own rebase and its own store.
 *
 * It is no dependency, as its terms are its own: `npm install --no-save replicache@15.3.0` brings it. What comes from the server
 * is JSON text there and parsed within what is timed, as our frames are decoded. Pushing is put off for ever: what is
 * pending stays so.
 */

const RESPONDED = { httpRequestInfo: { httpStatusCode: 200, errorMessage: "" } };
const NEVER_MS = 2_000_000_000;
let numMade = 0;

/** Return its constructor, null if it is not installed. */
export async function findReplicache() {
  try {
    return (await import("replicache")).Replicache;
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    return null;
  }
}

/** One client, and a way to wait until its application is told a change. */
export class Replica {
  #rep;
  #cookie = 0;
  #text = "";
  #told = null;
  #isList;
  /** The rows as told last; by a subscription alone. */
  rows = [];

  /** @param way How it is told changes: `list` has the whole list read anew, `diff` is told what changed. */
  constructor(Replicache, way) {
    numMade += 1;
    this.#isList = way === "list";
    this.#rep = new Replicache({
      name: `bench-${numMade}`,
      kvStore: "mem",
      pullInterval: null,
      pushDelay: NEVER_MS,
      // It complains of its own second pull at the start, which finds the first one's cookie.
      logSinks: [],
      puller: async ({ cookie }) => ({ ...RESPONDED, response: this.#answer(cookie) }),
      pusher: async () => RESPONDED,
      mutators: {
        async ship(tx, { id }) {
          const row = await tx.get(id);
          await tx.set(id, { ...row, status: "shipped", by: row.customer });
        },
      },
    });
    if (!this.#isList) this.#rep.experimentalWatch(() => this.#tell());
    else {
      this.#rep.subscribe((tx) => tx.scan().values().toArray(), {
        onData: (rows) => {
          this.rows = rows;
          this.#tell();
        },
      });
    }
  }

  /** It pulls by itself at its start as well, and may have everything already. */
  #answer(cookie) {
    if (this.#cookie > (cookie ?? 0)) return JSON.parse(this.#text);
    return { cookie: this.#cookie, lastMutationIDChanges: {}, patch: [] };
  }

  #tell() {
    this.#told?.();
  }

  /** Do something, and wait until a change is told. */
  async #until(act) {
    const told = new Promise((resolve) => {
      this.#told = resolve;
    });
    await act();
    await told;
    this.#told = null;
  }

  /** It has pulled by itself, and a subscription has told that there is nothing. */
  async ready() {
    const pulled = this.#rep.pull({ now: true });
    if (this.#isList) await this.#until(() => pulled);
    await pulled;
  }

  /** Take a snapshot. */
  async load(entries) {
    this.#cookie += 1;
    const patch = [{ op: "clear" }, ...entries.map(([key, value]) => ({ op: "put", key, value }))];
    this.#text = JSON.stringify({ cookie: this.#cookie, lastMutationIDChanges: {}, patch });
    const start = performance.now();
    await this.#until(() => this.#rep.pull());
    return performance.now() - start;
  }

  /** Take an event. */
  async event(key, value) {
    const text = JSON.stringify({ op: "put", key, value });
    const baseCookie = this.#cookie;
    this.#cookie += 1;
    const head = { cookie: this.#cookie, lastMutationIDChanges: {} };
    const start = performance.now();
    await this.#until(() =>
      this.#rep.poke({ baseCookie, pullResponse: { ...head, patch: [JSON.parse(text)] } }),
    );
    return performance.now() - start;
  }

  /** Make a prediction that stays one. */
  async ship(id) {
    await this.#until(() => this.#rep.mutate.ship({ id }));
  }

  read(key) {
    return this.#rep.query((tx) => tx.get(key));
  }

  close() {
    return this.#rep.close();
  }
}
