// nginx, as somebody's web server whose files are read in ranges.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { until } from "./program.ts";

export interface WebServer extends AsyncDisposable {
  readonly url: string;
  /** Its files lie here. */
  readonly folder: string;
  /** How many answers of this status it has given. */
  answers(status: number): number;
}

/** Starts it with all its files in `home`, an absolute path. */
export async function startNginx(home: string): Promise<WebServer> {
  const folder = join(home, "www");
  mkdirSync(folder);
  const port = freePort();
  const log = join(home, "access.log");
  const config = join(home, "nginx.conf");
  // A folder of a test is for its owner alone.
  const text = `user root; daemon off; pid ${home}/nginx.pid; error_log stderr; events {}
http { access_log ${log}; server { listen 127.0.0.1:${port}; root ${folder}; } }
`;
  await Bun.write(config, text);
  const server = Bun.spawn(["nginx", "-p", home, "-e", "stderr", "-c", config], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const url = `http://127.0.0.1:${port}`;
  const isUp = () => fetch(url).then(Boolean, () => false);
  await until("nginx answers", isUp);
  return {
    url,
    folder,
    answers: (status) => readFileSync(log, "utf8").split(`" ${status} `).length - 1,
    [Symbol.asyncDispose]: async () => {
      server.kill("SIGTERM");
      await server.exited;
    },
  };
}

function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}
