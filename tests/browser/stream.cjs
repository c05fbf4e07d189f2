// Reads one run as it comes: node stream.cjs SERVER KEY GRAPH INPUT. Its events as one line of JSON.

const { Client } = require("@langchain/langgraph-sdk");

const [apiUrl, apiKey, graph, input] = process.argv.slice(2);

async function main() {
  const client = new Client({ apiUrl, apiKey });
  const { thread_id } = await client.threads.create();
  const options = { input: JSON.parse(input), streamMode: ["updates", "values"], config: { recursion_limit: 100 } };
  const parts = [];
  for await (const part of client.runs.stream(thread_id, graph, options)) parts.push(part);
  console.log(JSON.stringify(parts));
}

main();
