// What a completion belongs to, packed into the two 32-bit halves of user_data.
//
//   lo: tag (16 bits) | step << 16 (a target's own SQEs) or lane << 16 (ublk)      hi: the kind

/** The high half of user_data. */
export const KIND = {
  /** FETCH or COMMIT_AND_FETCH: a request has arrived, or the kernel took the tag back. */
  ublk: 1,
  /** An SQE that a target queued. */
  target: 2,
  /** An order from the main thread (MSG_RING): protocol.ts. */
  wake: 3,
  /** An SQE that the data mode queued; it is heard of only when it fails. */
  mode: 4,
  /** A command for many tags at once (batch.ts). */
  batch: 5,
} as const;

export function packLo(tag: number, step: number): number {
  return tag | (step << 16);
}

export function tagOf(lo: number): number {
  return lo & 0xffff;
}

/** Of a ublk completion: which of the queues on the ring it belongs to. */
export function laneOf(lo: number): number {
  return lo >>> 16;
}

export function stepOf(lo: number): number {
  return lo >>> 16;
}
