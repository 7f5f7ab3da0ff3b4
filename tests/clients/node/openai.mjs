// The official Node client: chat, streams, tools, structured output, embeddings, files, responses.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [url, model, embedder] = process.argv.slice(2);
const api = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
const weather = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const hello = [{ role: "user", content: "Weather in Ulm and Bern?" }];

const checks = {
  async models() {
    const ids = [];
    for await (const one of api.models.list()) ids.push(one.id);
    assert(ids.includes(model));
  },
  async chat() {
    const answer = await api.chat.completions.create({ model, messages: hello });
    assert(answer.choices[0].message.content.length > 0 && answer.usage.total_tokens > 0);
  },
  async stream() {
    const stream = api.chat.completions.stream({
      model, messages: hello, stream_options: { include_usage: true },
    });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const whole = await stream.finalChatCompletion();
    assert.equal(whole.choices[0].message.content, text);
    assert(whole.usage.completion_tokens > 0);
  },
  async tools() {
    const tools = ["weather", "time"].map((name) => ({ type: "function", function: { name, parameters: weather } }));
    const both = [{ role: "user", content: "The weather and the time in Ulm?" }];
    const asked = await api.chat.completions.create({ model, messages: both, tools });
    const calls = asked.choices[0].message.tool_calls;
    if (model === "demo") assert.deepEqual(calls.map((call) => call.function.name), ["weather", "time"]);
    const results = calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "sunny" }));
    const messages = [...both, asked.choices[0].message, ...results];
    const told = await api.chat.completions.create({ model, messages, tools });
    assert.equal(told.choices[0].finish_reason, "stop");
  },
  async structured() {
    const response_format = { type: "json_schema", json_schema: { name: "w", strict: true, schema: weather } };
    const answer = await api.chat.completions.create({ model, messages: hello, response_format });
    assert.equal(typeof JSON.parse(answer.choices[0].message.content).city, "string");
  },
  async embeddings() {
    const { data } = await api.embeddings.create({ model: embedder, input: ["one", "two"] });
    assert.equal(data.length, 2);
    assert(Math.abs(data[0].embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 0.01);
  },
  async files() {
    const sent = await api.files.create({ file: await toFile(Buffer.from("a secret word"), "né.txt"), purpose: "user_data" });
    assert.equal(await (await api.files.content(sent.id)).text(), "a secret word");
    const part = { type: "input_file", file_id: sent.id };
    const input = [{ role: "user", content: [{ type: "input_text", text: "Read this." }, part] }];
    assert.equal((await api.responses.create({ model, input })).status, "completed");
    assert((await api.files.delete(sent.id)).deleted);
  },
  async responses() {
    const first = await api.responses.create({ model, input: "hello" });
    const stream = api.responses.stream({ model, input: "go on", previous_response_id: first.id });
    const events = [];
    for await (const event of stream) events.push(event);
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, index) => index));
    assert((await stream.finalResponse()).output_text.length > 0);
    const begun = await api.responses.create({ model, input: "slowly", background: true });
    assert(["cancelled", "completed"].includes((await api.responses.cancel(begun.id)).status));
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok openai ${model} ${name}`);
}
