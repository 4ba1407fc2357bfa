/** Reads `protocol/vectors`, the cases that all implementations share. */

import { readFileSync } from "node:fs";

const VECTORS = new URL("../../../protocol/vectors/", import.meta.url);

/** One case; see `protocol/vectors/README.md`. */
export interface Case {
  name: string;
  direction: "client" | "server";
  hex: string | [string, number][];
  decoded?: [string, Record<string, unknown>][];
  error?: string;
  id?: number;
}

export function loadVectors(file: string): Case[] {
  return JSON.parse(readFileSync(new URL(file, VECTORS), "utf8")) as Case[];
}

export function frameOf(vector: Case): Uint8Array {
  const { hex } = vector;
  if (typeof hex === "string") return new Uint8Array(Buffer.from(hex, "hex"));
  return new Uint8Array(
    Buffer.concat(hex.flatMap(([part, times]) => Array(times).fill(Buffer.from(part, "hex")))),
  );
}

/** The values that a vector's JSON stands for: bin as bytes, maps without a prototype. */
export function valueFrom(plain: unknown): unknown {
  if (Array.isArray(plain)) return plain.map(valueFrom);
  if (typeof plain !== "object" || plain === null) return plain;
  const entries = Object.entries(plain);
  const [first] = entries;
  if (entries.length === 1 && first?.[0] === "$bin")
    return new Uint8Array(Buffer.from(first[1] as string, "hex"));
  const map = Object.create(null) as Record<string, unknown>;
  for (const [key, value] of entries) map[key] = valueFrom(value);
  return map;
}
