// The kernel's own test scripts with our server in place of theirs: what passes with theirs passes
// with ours. Only on the kernel that the scripts belong to, in a guest of its own: see suite.ts.

import { isLong } from "../support/long.ts";
import { testScripts } from "../support/selftests/as-good.ts";

testScripts([
  ..."null_01 null_02 null_03".split(" "),
  ..."loop_01 loop_02 loop_03 loop_04 loop_05 loop_06 loop_07 loop_08".split(" "),
  ..."stripe_01 stripe_02 stripe_03 stripe_04 stripe_05 stripe_06".split(" "),
  ..."generic_03 generic_07 generic_08 generic_09 generic_10 generic_13".split(" "),
  ..."generic_16 generic_17".split(" "),
  // What these try, our own tests do with --batch, and sooner.
  ...(isLong ? "batch_01 batch_03 recover_01".split(" ") : []),
]);
