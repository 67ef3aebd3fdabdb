// The server's messages: an EventSource that comes back after a gap, and says how it is.

const NAMES = [
  "snapshot", "steps", "validations", "state", "workers", "spans", "marks", "samples", "tensors",
  "numbers", "ping", "note",
];
const SILENCE = 25_000; // ms; the server pings every 10 s
const LONGEST = 10_000; // ms between tries

/**
 * Reads the stream for as long as the page is there.
 * @param {(name: string, data: any) => void} take called with each message
 * @param {(status: "open"|"lost", tries: number) => void} status called when it changes
 */
export function follow(take, status) {
  let source = null;
  let last = "";
  let tries = 0;
  let heard = performance.now();
  let again = 0;

  function open() {
    clearTimeout(again);
    source?.close();
    const url = last ? `/api/stream?last=${encodeURIComponent(last)}` : "/api/stream";
    source = new EventSource(url);
    heard = performance.now();
    source.onopen = () => {
      tries = 0;
      heard = performance.now();
      status("open", 0);
    };
    source.onerror = () => lost();
    for (const name of NAMES) source.addEventListener(name, message);
  }

  function message(event) {
    heard = performance.now();
    if (event.lastEventId) last = event.lastEventId;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // half a line at the end of a connection
    }
    take(event.type, data);
  }

  function lost() {
    tries += 1;
    status("lost", tries);
    source.close();
    clearTimeout(again);
    again = setTimeout(open, Math.min(500 * 2 ** Math.min(tries - 1, 8), LONGEST));
  }

  setInterval(() => {
    if (source.readyState === EventSource.OPEN && performance.now() - heard > SILENCE) lost();
  }, 5000);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && open());
  open();
}
