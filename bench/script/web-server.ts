// A web server that answers everything with 4096 bytes after so many ms. Prints its URL.
//
//   bun bench/script/web-server.ts MS

const answerMs = Number(process.argv[2]);
const body = new Uint8Array(4096).fill(7);

const { url } = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch() {
    await Bun.sleep(answerMs);
    return new Response(body);
  },
});
console.log(url.href);
