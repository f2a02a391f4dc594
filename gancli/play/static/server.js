// Computes what the page asks for, in a worker or in the page itself. Every job has a channel, where it replaces the one
// before it. After each image or tile, the job of the most urgent channel goes on.
"use strict";

const CHANNELS = ["image", "ends", "picture", "grid"];  // the first is the most urgent

class Server {
  // post(message, transferred) answers the page; {type: "load"} must come first.
  constructor(post) {
    this.post = post;
    this.jobs = {};
    this.running = false;
  }

  receive(message) {
    try {
      if (message.type === "load") this.load(message);
      else {
        this.jobs[message.channel] = this.begin(message);
        if (!this.running) this.run();
      }
    } catch (error) {
      this.post({type: "failed", text: String(error?.message ?? error)});
    }
  }

  load({model, weights, simd}) {
    this.info = model;
    this.engine = new Engine(model, weights, simd);
    this.post({type: "ready", fast: this.engine.arena.kernel !== null});
  }

  begin(message) {
    const {channel, id} = message;
    const answers = {generate: () => this.generate(message), encode: () => this.encode(message),
      translate: () => translate(this.engine, this.info, message.graph, message.picture)}[message.type]();
    return {answers, channel, id};
  }

  async run() {
    this.running = true;
    for (let channel; (channel = CHANNELS.find(name => this.jobs[name]));) {
      const job = this.jobs[channel];
      try {
        const {value, done} = job.answers.next();
        if (done) delete this.jobs[channel];
        else this.post({type: "answer", channel, id: job.id, ...value}, value.pixels ? [value.pixels.buffer] : []);
      } catch (error) {
        delete this.jobs[channel];
        this.post({type: "failed", channel, id: job.id, text: String(error?.message ?? error)});
      }
      await nextTask();  // messages that have come in the meantime
    }
    this.running = false;
  }

  // Yields the image of every latent {z, c}.
  * generate({latents}) {
    for (const [i, latent] of latents.entries()) yield {i, ...this.image(latent)};
  }

  image({z, c}) {
    const image = this.engine.run("generate", tensor([1, z.length], z), tensor([1, c.length], c));
    const [, , height, width] = image.shape;
    return {width, height, pixels: toPixels(image, 0, 0, width, height)};
  }

  // Yields the latent of a picture, with the class of `candidates` whose reconstruction is nearest.
  * encode({picture, candidates}) {
    const {size, channels} = this.info, planes = readBox(picture, [0, 0, size, size], channels);
    let best = null;
    for (const c of candidates) {
      const x = tensor([1, channels, size, size], planes), label = tensor([1, c.length], c);
      const z = this.engine.run("encode", x, label).data;
      const image = this.engine.run("generate", tensor([1, z.length], z), label);
      const error = image.data.reduce((sum, v, i) => sum + (v - planes[i]) ** 2, 0) / planes.length;
      if (!best || error < best.error) best = {z, c, error};
    }
    yield {latent: best};
  }
}

// Resolves when the messages that wait now have been handled; a timer would wait 4 ms.
function nextTask() {
  return new Promise(resolve => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  });
}

// Starts a server in a worker, whose only script this is.
function serve() {
  const server = new Server((message, transferred) => self.postMessage(message, transferred));
  self.onmessage = ({data}) => server.receive(data);
}
