// The official `ollama` client: models, chat, streams, tools, structured output, thinking, embeddings, pulls.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [host, model, embedder] = process.argv.slice(2);
const client = new Ollama({ host });
const messages = [{ role: "user", content: "hello" }];
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "Tell the weather.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const checks = {
  async models() {
    assert((await client.version()).version >= "0.13.4");
    const names = (await client.list()).models.map((each) => each.name);
    assert(names.includes(model) && names.includes(embedder));
    assert((await client.show({ model })).capabilities.includes("completion"));
    assert((await client.ps()).models.every((each) => names.includes(each.name)));
    await assert.rejects(client.show({ model: "nowhere" }), /model 'nowhere' not found/);
  },
  async chat() {
    const whole = await client.chat({ model, messages });
    const parts = await all(await client.chat({ model, messages, stream: true }));
    assert(whole.message.content.length > 0);
    assert.equal(parts.map((part) => part.message.content).join(""), whole.message.content);
    assert(parts.at(-1).done && parts.at(-1).eval_count > 0);
    assert(whole.created_at && !Number.isNaN(Date.parse(whole.created_at)));
  },
  async tools() {
    const [part] = (await all(await client.chat({ model, messages, tools: [weather], stream: true }))).filter(
      (each) => each.message.tool_calls,
    );
    const [call] = part.message.tool_calls;
    assert.equal(typeof call.function.arguments.city, "string");
    const result = { role: "tool", tool_name: "weather", content: "sunny" };
    const after = await client.chat({ model, messages: [...messages, part.message, result], tools: [weather] });
    assert.match(after.message.content, /sunny/);
  },
  async format() {
    const format = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
    assert(Number.isInteger(JSON.parse((await client.chat({ model, messages, format })).message.content).n));
  },
  async thinking() {
    assert((await client.chat({ model, messages, think: true })).message.thinking.length > 0);
  },
  async generate() {
    assert((await client.generate({ model, prompt: "hello" })).response.length > 0);
    assert.equal((await client.generate({ model, prompt: "" })).done_reason, "load");
  },
  async embed() {
    const { embeddings } = await client.embed({ model: embedder, input: ["hello", "world"] });
    assert.equal(embeddings.length, 2);
  },
  async pull() {
    assert.deepEqual(await all(await client.pull({ model, stream: true })), [{ status: "success" }]);
    const news = await all(await client.pull({ model: "tiny", stream: true }));
    assert.equal(news.at(-1).status, "success");
    assert.equal((await client.copy({ source: "tiny", destination: "mine" })).status, "success");
    for (const name of ["tiny", "mine"]) await client.delete({ model: name });
    await assert.rejects(async () => all(await client.pull({ model: "nowhere", stream: true })), /does not exist/);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ollama ${model} ${name}`);
}
