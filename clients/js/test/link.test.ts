import { describe, expect, it } from "vitest";
import type { SocketLike, SocketMaker } from "../src/index.ts";
import { Link } from "../src/shell/link.ts";

type Handler = (event: object) => void;

/** A socket that goes on talking after it was closed, as browsers' do for a while. */
class Talkative implements SocketLike {
  static last: Talkative;
  binaryType = "blob";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly calls: unknown[] = [];
  readonly made: unknown[];

  constructor(...made: unknown[]) {
    this.made = made;
    Talkative.last = this;
  }

  send(data: Uint8Array): void {
    this.calls.push(["send", ...data]);
  }

  close(code?: number, reason?: string): void {
    this.calls.push(["close", code, reason]);
  }

  /** Everything a socket can say. */
  talk(): void {
    (this.onopen as Handler | null)?.({});
    (this.onmessage as Handler | null)?.({ data: Uint8Array.of(1).buffer });
    (this.onerror as Handler | null)?.({});
    (this.onclose as Handler | null)?.({ code: 1001, reason: "late" });
  }
}

function linked(): { link: Link; socket: Talkative; told: unknown[] } {
  const told: unknown[] = [];
  const link = new Link(Talkative as unknown as SocketMaker, "ws://x", {
    opened: () => told.push("opened"),
    received: (frame) => told.push([...frame]),
    closed: (code, reason) => told.push([code, reason]),
  });
  return { link, socket: Talkative.last, told };
}

describe("a link", () => {
  it("offers the subprotocol and wants bytes", () => {
    const { socket } = linked();
    expect([socket.made, socket.binaryType]).toEqual([["ws://x", "syncd.v1"], "arraybuffer"]);
  });

  it("tells what its socket says, and one end", () => {
    const { socket, told } = linked();
    socket.talk();
    socket.talk();
    expect(told).toEqual(["opened", [1], [1006, ""]]);
  });

  it("is silent once it is hung up, and sends nothing, whatever its socket still says", () => {
    const { link, socket, told } = linked();
    link.hangUp(1006, "x".repeat(200));
    link.send(Uint8Array.of(2));
    socket.talk();
    expect(told).toEqual([]);
    expect(socket.calls).toEqual([["close", 3000, "x".repeat(123)]]);
  });
});
