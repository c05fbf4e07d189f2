// Playwright by lines: each line on stdin is one call of a page's method as JSON, each line on stdout its answer.
// The browser is the one that is installed; it goes when stdin ends, so also when whoever asked has died.

const readline = require("node:readline");
const { chromium } = require("playwright-core");

const [executablePath, ...args] = process.argv.slice(2);
const pages = new Map();

/** Pages that share nothing: each has a context of its own. */
async function open(browser, name) {
  const context = await browser.newContext();
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  const [problems, sockets, requests, complaints] = [[], [], [], []];
  page.on("pageerror", (error) => problems.push(String(error.stack ?? error)));
  page.on("websocket", (socket) => sockets.push(socket.url()));
  page.on("request", (request) => requests.push(request.url()));
  // What a Content-Security-Policy forbids is told there only.
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  pages.set(name, { page, seen: { problems, sockets, requests, complaints } });
}

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { page: name, method, params } = JSON.parse(line);
    let answer;
    try {
      if (!pages.has(name)) await open(browser, name);
      const { page, seen } = pages.get(name);
      const value = method in seen ? seen[method] : await page[method](...params);
      // What cannot be told in JSON, a response for example, is nobody's answer.
      answer = { value: method === "goto" || method.startsWith("wait") ? null : (value ?? null) };
    } catch (error) {
      answer = { error: String(error.message ?? error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
}

main().catch((error) => {
  process.stdout.write(`${JSON.stringify({ error: String(error.message ?? error) })}\n`);
  process.exit(1);
});
