// The Debian mirror is found in both formats of apt's sources, and only the main archive counts.

import { expect, test } from "bun:test";

import { fromDeb822, fromOneLine } from "./apt-sources.ts";

test("deb822: the security archive and disabled stanzas are passed over", () => {
  const text = `# a comment
Types: deb
URIs: http://a.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://b.example/debian
Suites: bookworm
Enabled: no

Types: deb deb-src
# another comment
URIs: http://c.example/debian
Suites: bookworm bookworm-updates
Signed-By: /usr/share/keyrings/some.gpg
`;
  expect(fromDeb822(text)).toEqual({
    uri: "http://c.example/debian",
    signedBy: "/usr/share/keyrings/some.gpg",
  });
});

test("deb822: an inline key is kept with all its lines", () => {
  const text = "Types: deb\nURIs: http://a.example/\nSuites: trixie\nSigned-By:\n -----B\n .\n x\n";
  expect(fromDeb822(text)?.signedBy).toBe("\n -----B\n .\n x");
});

test("one-line: options are read, comments and other archives are passed over", () => {
  const text = `# deb http://a.example/ trixie main
deb http://b.example/tools stable-tools main
deb [arch=amd64 signed-by=/k.gpg] http://c.example/debian trixie main
`;
  expect(fromOneLine(text)).toEqual({ uri: "http://c.example/debian", signedBy: "/k.gpg" });
  expect(fromOneLine("deb http://d.example/ubuntu noble main")).toBeUndefined();
});
