/** Who is in a channel: the view that `presence_state` and `presence_diff` keep (protocol/SPEC.md, section 9). */

export class PresenceView {
  /** By member id, in order of arrival. */
  members = new Map();
  seq = -1;
  /** False until `presence_state` came on this subscription; what is shown until then is the last that was known. */
  isCurrent = false;

  /** The subscription is over, or begins anew. */
  outdate() {
    this.isCurrent = false;
  }

  /** Take a whole new view. */
  replace(body) {
    this.members = new Map(body.members.map((member) => [member.member, member]));
    this.seq = body.seq;
    this.isCurrent = true;
  }

  /** Apply a diff if it is the next one; one that skips is ignored, because a new state follows it. */
  apply(body) {
    if (!this.isCurrent || body.seq !== this.seq + 1) return;
    this.seq = body.seq;
    for (const id of body.leaves) this.members.delete(id);
    for (const member of [...body.joins, ...body.updates]) this.members.set(member.member, member);
  }

  /** Return `[{id, name, clients}]`; `name` as the newest client of the member announces it, else null. */
  people() {
    return [...(this.members.values())].map(({ member, states }) => ({
      id: member,
      name: states.map(({ state }) => nameOf(state)).findLast((name) => name !== null) ?? null,
      clients: states.map(({ client }) => client),
    }));
  }

  /** Return the name that a client goes by here, or null. */
  nameOfClient(client) {
    for (const { states } of this.members.values()) {
      const entry = states.find((item) => item.client === client);
      if (entry !== undefined) return nameOf(entry.state);
    }
    return null;
  }
}

function nameOf(state) {
  const name = typeof state === "string" ? state : state?.name;
  return typeof name === "string" && name.trim() !== "" ? name.slice(0, 64) : null;
}
