// Drives a running server through OpenAI's JavaScript client: URL and key are the arguments.
import assert from "node:assert";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const OpenAI = require("openai").default ?? require("openai");
const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Once upon a time, there was a little girl named Lily." }];

const chat = await client.chat.completions.create({ model: "base", messages, max_tokens: 12, temperature: 0, preferences: { cheerful: 0.8 } });
assert.equal(chat.usage.completion_tokens, 12);
assert.ok(Math.abs(chat.genarm.weights.cheerful - 0.8) < 1e-6);

let text = "";
const stream = await client.chat.completions.create({ model: "base", messages, max_tokens: 12, temperature: 0, stream: true, preferences: { cheerful: 0.8 } });
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
assert.equal(text, chat.choices[0].message.content);

const parameters = { type: "object", properties: { city: { enum: ["Rome"] } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const calls = await client.chat.completions.create({ model: "base", messages, tools, tool_choice: "required", max_tokens: 200, temperature: 0, stream: true });
let args = "";
for await (const chunk of calls) args += chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.arguments ?? "";
assert.deepEqual(JSON.parse(args), { city: "Rome" });
const response = await client.responses.create({ model: "base", input: messages[0].content, max_output_tokens: 8 });
assert.equal(response.usage.output_tokens, 8);
assert.ok(response.output_text.length > 0);

await assert.rejects(client.chat.completions.create({ model: "base", messages, temperature: -1 }), (error) => error.status === 400 && error.param === "temperature");
await assert.rejects(new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list(), (error) => error.status === 401);
console.log("all is well");
