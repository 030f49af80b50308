// The kernel's own test scripts that race the clock, in a guest whose clock waits for them: see suite.ts.

import { testScripts } from "../support/selftests/as-good.ts";
import { TIMED } from "../support/selftests/names.ts";

testScripts(TIMED);
