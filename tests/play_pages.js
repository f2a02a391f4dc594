// Runs the engine of a play page without a browser: node play_pages.js PAGE JOBS. Each job is a message of server.js; for
// {type: "generate", seed, images, c} the noise is the page's own. Prints a list with the answers of each job.
"use strict";
const fs = require("fs");
const html = fs.readFileSync(process.argv[2], "utf8"), jobs = JSON.parse(fs.readFileSync(process.argv[3], "utf8"));
const part = id => html.split(`id="${id}">`)[1].split("</script>")[0];
require("vm").runInThisContext(part("engine") + ";globalThis.page = {Server, noiseOf};");
const model = JSON.parse(part("data")), answers = [];

async function run() {
  for (const simd of [true, false]) {
    const server = new page.Server(answer => { if (answer.type !== "ready") answers.at(-1).push(answer); });
    server.receive({type: "load", model, weights: part("weights"), simd});
    for (const job of jobs) {
      answers.push([]);
      if (job.type === "generate") {
        job.latents = job.images.map((image, i) => ({
          z: page.noiseOf(job.seed, image, model.zDim),
          c: Float32Array.from(job.c[i]),
        }));
      }
      if (job.picture) job.picture.pixels = Uint8ClampedArray.from(job.picture.pixels);
      if (job.candidates) job.candidates = job.candidates.map(c => Float32Array.from(c));
      server.jobs[job.channel] = server.begin(job);
      await server.run();
    }
  }
  for (const answer of answers.flat()) {
    if (answer.pixels) answer.pixels = [...answer.pixels];
    if (answer.latent) answer.latent = {z: [...answer.latent.z], c: [...answer.latent.c], error: answer.latent.error};
  }
  process.stdout.write(JSON.stringify(answers));
}

run();
