/**
 * Which client id this tab may speak for. A duplicated tab brings a copy of sessionStorage along, and with it the id of a tab
 * that still lives; a lock held as long as the tab lives tells the two apart.
 */

const HANDOVER_MS = 1_500; // a page that is being reloaded gives its lock up within this time

/** Hold the lock of `identity` for as long as this page lives; return the identity, or null when another tab holds it. */
export async function claim(identity, locks) {
  if (identity === null || locks === undefined) return identity;
  const patience = AbortSignal.timeout(HANDOVER_MS);
  return new Promise((resolve) => {
    locks
      .request(lockName(identity), { signal: patience }, () => {
        resolve(identity);
        return new Promise(() => {}); // never: the browser lets go when the page goes
      })
      .catch(() => resolve(null));
  });
}

function lockName({ client }) {
  return `syncd.client.${client}`;
}

/** Return a name for somebody who has not given one. */
export function inventName(random) {
  const pick = (words) => words[Math.floor(random() * words.length)];
  return `${pick(["Amber", "Brisk", "Calm", "Keen", "Lucid", "Merry", "Noble", "Quiet"])} ${pick([
    "Crane", "Finch", "Heron", "Lynx", "Marten", "Otter", "Plover", "Wren",
  ])}`;
}
