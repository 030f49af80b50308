// Writes a cpio archive in the "newc" format, which is what the kernel unpacks as its initramfs.

/** One folder (no `content`) or regular file; folders come before what is in them. */
export interface Entry {
  /** Without a leading slash. */
  readonly path: string;
  readonly content?: Uint8Array;
}

const FOLDER = 0o40755;
const PROGRAM = 0o100755;

/** The archive of `entries`, every file executable. Layout: the kernel's buffer-format.rst. */
export function cpio(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const parts = entries.flatMap((entry, index) => member(entry, index + 1));
  return new Uint8Array(Buffer.concat([...parts, ...member({ path: "TRAILER!!!" }, 0)]));
}

function member(entry: Entry, inode: number): Uint8Array[] {
  const content = entry.content ?? new Uint8Array();
  const mode = entry.content === undefined ? FOLDER : PROGRAM;
  // Inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, checksum.
  const nameBytes = entry.path.length + 1;
  const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, nameBytes, 0];
  const hex = numbers.map((number) => number.toString(16).padStart(8, "0")).join("");
  const head = Buffer.from(`070701${hex}${entry.path}\0`, "latin1");
  return [head, padding(head.length), content, padding(content.length)];
}

// Header plus name, and the content, each fill up to a multiple of four bytes.
function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
