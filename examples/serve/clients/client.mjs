// The openai npm package against a gateway:
//     npm install openai && OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none node client.mjs MODEL
import OpenAI from "openai";

const client = new OpenAI();
const request = {
  model: process.argv[2],
  max_tokens: 24,
  messages: [{ role: "user", content: "Write one sentence about a woman at work." }],
};
const answer = await client.chat.completions.create({ ...request, n: 2 });
console.log("plain:   ", answer.choices.map((choice) => choice.message.content));
let text = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  text += chunk.choices[0]?.delta.content ?? "";
}
console.log("streamed:", text);
