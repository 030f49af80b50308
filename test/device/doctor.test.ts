// doctor's knowledge of kernels.

import { expect, test } from "bun:test";

import { kernelFindings } from "../../src/device/doctor.ts";

test.each([
  ["6.12.117+deb13-amd64", undefined],
  ["6.12.114", undefined],
  ["6.12.113", "CVE-2025-37906"],
  ["6.12.9", "CVE-2025-37906"],
  ["6.12.0-124.8.1.el10_1.x86_64", undefined],
  ["6.8.0-137-generic", "CVE-2025-37906"],
  ["6.6.100", undefined],
  ["6.14.5", "CVE-2025-37906"],
  ["6.14.6", undefined],
  ["6.14.0-37-generic", undefined],
  ["6.15.0", undefined],
  ["7.3.4+deb13-amd64", undefined],
  ["6.1.0-25-amd64", undefined],
  ["6.18.4", undefined],
  ["6.17.0-1005-aws", "crashes"],
  ["6.17.0-1002-azure", "crashes"],
  ["6.17.0-5-generic", undefined],
  ["6.18.40", "lose"],
  ["6.18.40-1-lts", "lose"],
  ["7.0.12", "lose"],
  ["6.0.19", "no user recovery"],
  ["5.15.0-91-generic", "no ublk"],
])("Linux %s", (name, words) => {
  const findings = kernelFindings(name);
  expect(findings.map(({ check }) => check)).toEqual(words === undefined ? [] : ["kernel"]);
  if (words !== undefined) expect(findings[0]!.what).toContain(words);
});
