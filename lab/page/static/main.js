// The least that shows that messages come.
const source = new EventSource("/api/stream");
const place = document.getElementById("state");
for (const name of ["snapshot", "state", "workers"]) {
  source.addEventListener(name, (event) => {
    place.textContent = `${name} ${event.data.slice(0, 2000)}`;
  });
}
