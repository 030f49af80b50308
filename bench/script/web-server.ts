// A web server that answers everything with 4096 bytes after 50 ms. Prints its URL.

const body = new Uint8Array(4096).fill(7);

const { url } = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch() {
    await Bun.sleep(50);
    return new Response(body);
  },
});
console.log(url.href);
