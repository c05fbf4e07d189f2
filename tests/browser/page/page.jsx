// A chat as one would write it from the SDKs' own documentation. In the address: ?server=…&key=…&hook=…&thread=…

import { createRoot } from "react-dom/client";
import { useState } from "react";

import { useStream as useThreadStream } from "@langchain/react";
import { useStream as useRunStream } from "@langchain/langgraph-sdk/react";

const asked = new URLSearchParams(location.search);
const options = {
  assistantId: "chat",
  apiUrl: asked.get("server"),
  apiKey: asked.get("key") ?? undefined,
};

const chats = {
  /** The hook of `@langchain/langgraph-sdk` as it comes: a run is cancelled when its page is closed. */
  sdk() {
    const [threadId, onThreadId] = useThreadInAddress();
    const stream = useRunStream({ ...options, threadId, onThreadId });
    return <Chat stream={stream} answer={(resume) => stream.submit(undefined, { command: { resume } })} />;
  },
  /** The same, with what lets a page that was loaded again find its run. */
  rejoining() {
    const [threadId, onThreadId] = useThreadInAddress();
    const stream = useRunStream({ ...options, threadId, onThreadId, reconnectOnMount: true, fetchStateHistory: true });
    return <Chat stream={stream} answer={(resume) => stream.submit(undefined, { command: { resume } })} />;
  },
  /** The hook of `@langchain/react`: protocol v2. */
  react() {
    const [threadId, onThreadId] = useThreadInAddress();
    const stream = useThreadStream({ ...options, threadId, onThreadId });
    return <Chat stream={stream} answer={(resume) => stream.respond(resume)} />;
  },
  /** The same by WebSocket, to which a browser can give no key. */
  socket() {
    const [threadId, onThreadId] = useThreadInAddress();
    const stream = useThreadStream({ ...options, threadId, onThreadId, transport: "websocket" });
    return <Chat stream={stream} answer={(resume) => stream.respond(resume)} />;
  },
};

/** The thread is still the page's when it is loaded again. */
function useThreadInAddress() {
  const [threadId, setThreadId] = useState(asked.get("thread"));
  return [
    threadId,
    (id) => {
      asked.set("thread", id);
      history.replaceState(null, "", `?${asked}`);
      setThreadId(id);
    },
  ];
}

function Chat({ stream, answer }) {
  const [draft, setDraft] = useState("");
  const send = (event) => {
    event.preventDefault();
    setDraft("");
    stream.submit({ messages: [{ type: "human", content: draft }] });
  };
  return (
    <>
      <h1>Chat</h1>
      <ol>
        {stream.messages.map((message, place) => (
          <li key={message.id ?? place} className={message.type}>
            {textOf(message)}
          </li>
        ))}
      </ol>
      {stream.interrupt && (
        <aside>
          <p>{stream.interrupt.value.question}</p>
          <button onClick={() => answer("yes")}>Yes</button>
          <button onClick={() => answer("no")}>No</button>
        </aside>
      )}
      {stream.error && <p role="alert">{String(stream.error?.message ?? stream.error)}</p>}
      <form onSubmit={send}>
        <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button disabled={stream.isLoading}>Send</button>
      </form>
      <output>{stream.isLoading ? "working" : "ready"}</output>
    </>
  );
}

function textOf({ content }) {
  return typeof content === "string" ? content : content.map((block) => block.text ?? "").join("");
}

// What a person has seen: the texts of all messages, each time that one has changed.
window.seen = [];
new MutationObserver(() => {
  window.seen.push([...document.querySelectorAll("li")].map((item) => item.textContent));
}).observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true });

const Page = chats[asked.get("hook")];
createRoot(document.querySelector("main")).render(<Page />);
