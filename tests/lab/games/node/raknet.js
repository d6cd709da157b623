// bedrock-protocol's RakNet, as the lab needs it. The native one is loaded even where another is asked for, and is compiled
// at installation, which the lab does not allow: hand out the one written in JavaScript instead.
const Module = require('module')
const load = Module._load
Module._load = function (id, ...rest) { return load.call(this, id === 'raknet-native' ? 'jsp-raknet' : id, ...rest) }
// That one serves a single player. bedrock-protocol keeps its players under `clients[conn.address]` (src/server.js), and
// these addresses have no text of their own: all share one place, and what the others send is read with the keys of
// whoever came last ("Checksum mismatch", "Unknown compression type").
require('jsp-raknet/js/utils/InetAddress').default.prototype.toString = function () { return this.hash }
// And whoever leaves, or is silent for ten seconds, closes the server for everybody (js/Connection.js, `disconnect`).
const { Connection } = require('jsp-raknet/js/Connection')
const disconnect = Connection.prototype.disconnect
Connection.prototype.disconnect = function (why) {
  if (!this.listener.server) return disconnect.call(this, why)
  this.listener.connections.delete(this.address.hash)
  this.listener.emit('closeConnection', this, why)
}
