// What a ublk control command is, as data: its number, how its request and reply are laid out, and
// what its errors mean. One file each under commands/.

/** The parts of a command that the kernel reads and writes. */
export interface Frame {
  /** The buffer behind ublksrv_ctrl_cmd.addr: zeroed, `bufferBytes` long. */
  readonly view: DataView;
  /** ublksrv_ctrl_cmd.data[0]. */
  data: bigint;
  /** ublksrv_ctrl_cmd.queue_id; 0xFFFF unless the command is about one queue. */
  queueId: number;
  /** Bytes of a device path at the start of the buffer (unprivileged devices, GET_DEV_INFO2). */
  pathBytes: number;
}

/** What an errno of this command means, and what to do about it. */
export interface Cause {
  readonly why: string;
  readonly hint?: string;
  /** Where it differs from the general rule of control.ts. */
  readonly exitCode?: 1 | 3 | 4 | 5 | 6;
}

/** One control command of linux/ublk_cmd.h. */
export interface Command<Request = void, Reply = void> {
  /** As in the header, without UBLK_U_CMD_. */
  readonly name: string;
  /** The encoded number, UBLK_CMD. */
  readonly op: number;
  /** The feature bit (GET_FEATURES) without which the kernel does not have it. */
  readonly needs?: bigint;
  /** The first kernel version that has it, for people. */
  readonly since?: string;
  /** Bytes behind `addr`; at most BUFFER_BYTES_MAX of control.ts. Default 0. */
  readonly bufferBytes?: number;
  encode?(request: Request, frame: Frame): void;
  /** `result` is the command's own, 0 or more. */
  decode?(frame: Frame, result: number): Reply;
  /** By errno name. */
  readonly causes?: Readonly<Record<string, Cause>>;
}

/** Lets the compiler check a command and keeps its request and reply types. */
export function defineCommand<Request = void, Reply = void>(
  command: Command<Request, Reply>,
): Command<Request, Reply> {
  return command;
}
