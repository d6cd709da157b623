// bedrock-protocol loads its native RakNet even when told to use another. That one is compiled at installation, which the
// lab does not allow: hand out the one written in JavaScript instead.
const Module = require('module')
const load = Module._load
Module._load = function (id, ...rest) { return load.call(this, id === 'raknet-native' ? 'jsp-raknet' : id, ...rest) }
