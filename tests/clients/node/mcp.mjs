// The memory over MCP: the inspector lists and calls both tools, and what the protocol's own conformance
// suite finds is exactly what docs/mcp.md says of every scenario.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const [url, model, , page] = process.argv.slice(2);
if (model !== "demo") process.exit(0); // models make no difference
const run = promisify(execFile);
const modules = "node_modules/@modelcontextprotocol";

async function inspect(...args) {
  const program = join(modules, "inspector/clients/launcher/build/index.js");
  const asked = ["--cli", `${url}/mcp`, "--transport", "http", "--method", ...args];
  return JSON.parse((await run(process.execPath, [program, ...asked])).stdout);
}

const called = (tool, ...args) => inspect("tools/call", "--tool-name", tool, ...args);

// What the suite says when it asks for a tool, a resource or a prompt of its own, which a real server has not.
const ITS_OWN = new RegExp(
  "unknown (tool|prompt): \\w*test_|resource.*: ?test://|matches test://|'json_schema_2020_12_tool' not found" +
    "|^Not testable: |^Expected InputRequiredResult|^Prerequisite failed: could not get initial InputRequired",
);

// One word for all the checks of a scenario, as in the page's table.
function outcome(checks) {
  const said = (status) => checks.filter((check) => check.status === status);
  const wrong = said("FAILURE").filter((check) => !ITS_OWN.test(check.errorMessage ?? ""));
  assert.deepEqual(wrong, []);
  if (said("FAILURE").length) return "missing";
  if (said("WARNING").length) return "warning";
  return said("SUCCESS").length ? "passed" : "nothing";
}

// The page's table: patterns of scenarios in code font, and what comes of them.
async function documented() {
  const table = (await readFile(page, "utf8")).split("## Conformance")[1];
  return [...table.matchAll(/^\| (.*`.*) \| (\w+) \| .*\|$/gm)].flatMap(([, names, word]) =>
    [...names.matchAll(/`(.+?)`/g)].map(([, name]) => [new RegExp(`^${name.replaceAll("*", ".*")}$`), word]));
}

async function conform(revision, outcomes) {
  const out = await mkdtemp(join(tmpdir(), "conformance-"));
  const program = join(modules, "conformance/dist/index.js");
  const asked = ["server", "--url", `${url}/mcp`, "--spec-version", revision, "--suite", "all", "-o", out];
  await run(process.execPath, [program, ...asked]).catch(() => {}); // it counts its own tools as missing
  for (const folder of await readdir(out)) {
    const scenario = folder.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT.*$/, "");
    const came = outcome(JSON.parse(await readFile(join(out, folder, "checks.json"), "utf8")));
    assert.equal(outcomes.get(scenario) ?? came, came, `${scenario} with ${revision}`);
    outcomes.set(scenario, came);
  }
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
  async conformance() {
    const outcomes = new Map();
    for (const revision of ["2025-11-25", "2026-07-28"]) await conform(revision, outcomes);
    const rows = await documented();
    for (const [scenario, came] of outcomes) {
      const told = rows.filter(([pattern]) => pattern.test(scenario)).map(([, word]) => word);
      assert.deepEqual(told, [came], `docs/mcp.md on ${scenario}`);
    }
    for (const [pattern] of rows) {
      assert([...outcomes.keys()].some((scenario) => pattern.test(scenario)), `no ${pattern} was run`);
    }
    for (const word of ["passed", "warning", "missing"]) {
      const some = [...outcomes].filter(([, came]) => came === word).map(([scenario]) => scenario);
      console.log(`   ${word}, ${some.length} of ${outcomes.size}: ${some.sort().join(" ")}`);
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok mcp ${name}`);
}
