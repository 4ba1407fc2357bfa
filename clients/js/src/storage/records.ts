/** Mutations as they lie in the database, and the transactions over them. */

import type { StoredMutation } from "../shell/pending-store.js";
import { type Work, whenDone } from "./database.js";

/** One mutation with what the queue needs to know. */
export interface MutationRecord extends StoredMutation {
  /** Place in the order in which mutations were first appended; given by the database. */
  readonly seq?: number;
  /** The page that speaks for it. Whoever holds the lock of that name may change and remove the record. */
  readonly owner: string;
  /** Version of the application's mutators that it was made for. */
  readonly schema: number;
}

/** Return all records, in order. */
export const allRecords: Work<MutationRecord[]> = (store, done) => {
  whenDone(store.getAll(), (records) => done(records as MutationRecord[]));
};

/** Put these behind all others; those whose `id` is there already keep their place. */
export function putAll(records: readonly MutationRecord[]): Work<void> {
  return (store) => {
    for (const record of records) {
      whenDone(store.index("id").getKey(record.id as never), (seq) => {
        store.put(seq === undefined ? record : { ...record, seq });
      });
    }
  };
}

/** Remove those with these ids that `owner` owns; null: whoever owns them. */
export function removeAll(ids: readonly string[], owner: string | null): Work<void> {
  return (store) => {
    for (const id of ids) {
      whenDone(store.index("id").get(id as never), (found) => {
        const record = found as MutationRecord | undefined;
        if (record !== undefined && (owner === null || record.owner === owner)) {
          store.delete(record.seq as never);
        }
      });
    }
  };
}

/**
 * Give the records of one owner, as far as they may be sent, to another; return them in order.
 *
 * Also returns those that the new owner has and does not know of: an attempt that was given up may have succeeded.
 */
export function adoptAll(
  from: string,
  to: string,
  schema: number,
  isKnown: (id: string) => boolean,
): Work<MutationRecord[]> {
  return (store, done) => {
    whenDone(store.getAll(), (found) => {
      const records = found as MutationRecord[];
      const theirs = records.filter((record) => record.owner === from);
      const adopted = sendable(theirs, schema).map((record) => ({ ...record, owner: to }));
      for (const record of adopted) store.put(record);
      const forgotten = records.filter((record) => record.owner === to && !isKnown(record.id));
      done([...adopted, ...forgotten]);
    });
  };
}

/**
 * Return the records that this version of the application may send.
 *
 * A client's mutations are numbered without a gap, so one that cannot be sent keeps all of its client's back.
 */
export function sendable(records: readonly MutationRecord[], schema: number): MutationRecord[] {
  const stuck = records.filter((record) => record.schema !== schema);
  const stuckClients = new Set(stuck.map((record) => record.claim?.client));
  return records.filter(
    (record) => record.schema === schema && (record.claim === null || !stuckClients.has(record.claim.client)),
  );
}

/** Return the mutation without what only the queue knows. */
export function mutationOf(record: MutationRecord): StoredMutation {
  const { id, claim, mid, name, args, madeAtMs } = record;
  return { id, claim, mid, name, args, madeAtMs };
}
