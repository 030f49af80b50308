// Every control command of linux/ublk_cmd.h, one line each.
export { addDev, ANY_DEVICE } from "./add-dev.ts";
export { delDev } from "./del-dev.ts";
export { delDevAsync } from "./del-dev-async.ts";
export { endUserRecovery } from "./end-user-recovery.ts";
export { getDevInfo } from "./get-dev-info.ts";
export { getDevInfo2 } from "./get-dev-info2.ts";
export { getFeatures } from "./get-features.ts";
export { getParams } from "./get-params.ts";
export { getQueueAffinity } from "./get-queue-affinity.ts";
export { quiesceDev } from "./quiesce-dev.ts";
export { regBuf } from "./reg-buf.ts";
export { setParams } from "./set-params.ts";
export { startDev } from "./start-dev.ts";
export { startUserRecovery } from "./start-user-recovery.ts";
export { stopDev } from "./stop-dev.ts";
export { tryStopDev } from "./try-stop-dev.ts";
export { unregBuf } from "./unreg-buf.ts";
export { updateSize } from "./update-size.ts";
