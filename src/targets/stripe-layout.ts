// Where a striped disk's bytes lie: chunk by chunk in turn on each member.
//
//   disk     | 0 | 1 | 2 | 3 | 4 | 5 |     whatever range of the disk one takes, what of it lies on one
//   member 0 | 0 | 2 | 4 |                 member is one range there: its end is where the end of the
//   member 1 | 1 | 3 | 5 |                 disk's range would be

/** Exact for disks up to 2^51 bytes. */
export class StripeLayout {
  readonly members: number;
  readonly chunkBytes: number;
  /** One chunk of each member. */
  readonly rowBytes: number;

  constructor(members: number, chunkBytes: number) {
    this.members = members;
    this.chunkBytes = chunkBytes;
    this.rowBytes = members * chunkBytes;
  }

  /** How many bytes of a member lie before this place of the disk. */
  memberOffset(diskOffset: number, member: number): number {
    const row = Math.floor(diskOffset / this.rowBytes);
    const rest = diskOffset - row * this.rowBytes - member * this.chunkBytes;
    const within = rest < 0 ? 0 : rest > this.chunkBytes ? this.chunkBytes : rest;
    return row * this.chunkBytes + within;
  }

  /** Where on the disk a member's byte is. */
  diskOffset(memberOffset: number, member: number): number {
    const row = Math.floor(memberOffset / this.chunkBytes);
    const within = memberOffset - row * this.chunkBytes;
    return row * this.rowBytes + member * this.chunkBytes + within;
  }

  /** The member that holds this place of the disk. */
  memberAt(diskOffset: number): number {
    return Math.floor(diskOffset / this.chunkBytes) % this.members;
  }

  /** How many chunks a range of the disk (or, the same arithmetic, of a member) touches. */
  chunks(offsetBytes: number, lengthBytes: number): number {
    if (lengthBytes === 0) return 0;
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.chunkBytes);
    return last - Math.floor(offsetBytes / this.chunkBytes) + 1;
  }
}
