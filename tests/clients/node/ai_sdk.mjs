// Vercel's AI SDK by its provider for OpenAI-compatible servers.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

const [url, model, embedder] = process.argv.slice(2);
const gate = createOpenAICompatible({
  name: "codexgate", baseURL: `${url}/v1`, apiKey: "any", includeUsage: true, supportsStructuredOutputs: true,
});
const prompt = "Weather in Ulm?";

const checks = {
  async text() {
    const answer = await generateText({ model: gate(model), prompt });
    assert(answer.text.length > 0 && answer.usage.totalTokens > 0);
  },
  async stream() {
    const answer = streamText({ model: gate(model), prompt });
    let text = "";
    for await (const delta of answer.textStream) text += delta;
    assert.equal(text, await answer.text);
    assert((await answer.usage).outputTokens > 0);
  },
  async tools() {
    const asked = [];
    const weather = tool({
      description: "The weather",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => { asked.push(city); return "sunny"; },
    });
    const answer = await generateText({ model: gate(model), prompt, tools: { weather }, stopWhen: isStepCount(3) });
    assert(asked.length > 0 && answer.text.length > 0);
  },
  async structured() {
    const output = Output.object({ schema: z.object({ city: z.string() }) });
    const answer = await generateText({ model: gate(model), prompt, output });
    assert.equal(typeof answer.output.city, "string");
  },
  async embeddings() {
    const { embeddings } = await embedMany({ model: gate.embeddingModel(embedder), values: ["one", "two"] });
    assert.equal(embeddings.length, 2);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok ai-sdk ${model} ${name}`);
}
