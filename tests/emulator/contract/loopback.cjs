// Loaded before a Node server that can only listen on every address: it listens on 127.0.0.1 instead.
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (options, ...rest) {
  if (options && typeof options === "object") return listen.call(this, { ...options, host: "127.0.0.1" }, ...rest);
  if (typeof options === "number" && typeof rest[0] === "string") rest[0] = "127.0.0.1";
  return listen.call(this, options, ...rest);
};
