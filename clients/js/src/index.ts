/** The client: what an application imports from `syncd-client`. */

export type { ClientClaim, Member, Position } from "./wire/messages.js";
