---@meta
-- lanrage's plugin API 1 for LuaLS and EmmyLua (LuaCATS). Made from the program's own table: do not edit.

---@class buffer
buffer = {}

bit32 = {}

---Nothing or true forwards, false drops, a number is the length of the changed packet.
---@alias lanrage.Verdict boolean|number|nil

---What is known of a packet besides its bytes. Read-only, and it stays as it is after the call; only `now` goes on.
---@class lanrage.Info
---@field peer? string id of the peer that sent it; nil is the game on this computer
---@field from string source address, in the party's terms
---@field from_port number source port, the game's own
---@field to string destination address as the packet has it
---@field to_port number destination port
---@field me string this computer's virtual address
---@field game string id of the profile whose rule matched
---@field now number seconds, as `lanrage.now()`

---The second value that a packet hook may return.
---@class lanrage.Extras
---@field to? string[] ids of the only peers that get the packet (packets of the own game)
---@field teach? number so many seconds (at most 300) the same verdict holds without asking
---@field same? boolean with `teach`: only for packets of exactly these bytes (true, the default), or for all that the same rule gets from the same source (false; not with a changed packet)
---@field open? lanrage.Open[] ports to open to the party, at most 8

---A port that the party may reach for a while.
---@class lanrage.Open
---@field port number which; one of the plugin's own in plugin.toml
---@field tcp? boolean TCP; else UDP
---@field seconds? number for how long, at most 300; 60 when not said
---@field peer? string that peer's port for this computer; else this computer's for the party

---A packet of the plugin's own. Addresses are always the true ones; a plugin names only ports.
---@class lanrage.Send
---@field to_port number destination port; it or `from_port` is one of the plugin's own, and with `as_peer` it is, unless the game asked from it
---@field from_port number source port
---@field payload string|buffer what it carries, at most 1,372 bytes
---@field n? number with a buffer: only its first n bytes
---@field to? string[] to the party: only to these peers
---@field as_peer? string to the game on this computer, as if this peer had sent it
---@field group? string a multicast group of plugin.toml; else broadcast, or this computer with `as_peer`

---A member of the party.
---@class lanrage.Peer
---@field id string its id
---@field name string what people call it
---@field address string its virtual address

---What `describe` says of a game.
---@class lanrage.Game
---@field title? string what the game calls itself, at most 80 characters
---@field map? string the map or scenario
---@field version? string the game's version
---@field players? number how many play
---@field most_players? number how many can
---@field port? number the port to join, one of the plugin's own; else what the profile says
---@field tcp? boolean joined by TCP; else UDP, or as the profile says
---@field over? boolean the game is over: take it from the lists

---The table that main.luau returns; every hook may be left out.
---@class lanrage.Plugin
---@field on_announcement? fun(b: buffer, n: number, info: lanrage.Info): lanrage.Verdict, lanrage.Extras?
---@field on_query? fun(b: buffer, n: number, info: lanrage.Info): lanrage.Verdict, lanrage.Extras?
---@field on_answer? fun(b: buffer, n: number, info: lanrage.Info): lanrage.Verdict, lanrage.Extras?
---@field describe? fun(b: buffer, n: number, info: lanrage.Info): lanrage.Game?
---@field on_peer_joined? fun(peer: lanrage.Peer)
---@field on_peer_left? fun(peer: lanrage.Peer)
---@field on_tick? fun()
---@field check? fun(): string?

lanrage = {}
packet = {}

---The version of this API.
---@type number
lanrage.api = 1

---Seconds since some moment, with fractions. The only clock; it stands still during a call, and is 0 while the plugin is loaded.
---@return number
function lanrage.now() end

---As `math.random`: from 0 to 1, from 1 to `low`, or from `low` to `high`. The same numbers for the same seed.
---@param low? number
---@param high? number
---@return number
function lanrage.random(low, high) end

---Who is in the party, in the order of their ids.
---@return lanrage.Peer[]
function lanrage.peers() end

---This computer's virtual address, once a packet was seen.
---@return string?
function lanrage.me() end

---A line for the log, at most 16 a call of 300 characters each. `print` is the same.
---@param ... any
function lanrage.log(...) end

---Sends a packet, at most 16 a call and 8 KiB in all. Needs `send = true` in plugin.toml. Sent only when the hook ends without an error.
---@param what lanrage.Send
function lanrage.send(what) end

---The byte at an offset.
---@param b buffer
---@param at number
---@return number
function packet.u8(b, at) end

---Two bytes, the high one first. Ports are written so.
---@param b buffer
---@param at number
---@return number
function packet.u16be(b, at) end

---Two bytes, the low one first.
---@param b buffer
---@param at number
---@return number
function packet.u16le(b, at) end

---Four bytes, the highest first.
---@param b buffer
---@param at number
---@return number
function packet.u32be(b, at) end

---Four bytes, the lowest first.
---@param b buffer
---@param at number
---@return number
function packet.u32le(b, at) end

---Writes a byte.
---@param b buffer
---@param at number
---@param value number
function packet.set_u8(b, at, value) end

---Writes two bytes, the high one first.
---@param b buffer
---@param at number
---@param value number
function packet.set_u16be(b, at, value) end

---Writes two bytes, the low one first.
---@param b buffer
---@param at number
---@param value number
function packet.set_u16le(b, at, value) end

---Writes four bytes, the highest first.
---@param b buffer
---@param at number
---@param value number
function packet.set_u32be(b, at, value) end

---Writes four bytes, the lowest first.
---@param b buffer
---@param at number
---@param value number
function packet.set_u32le(b, at, value) end

---Four bytes as an address, such as `10.77.1.9`.
---@param b buffer
---@param at number
---@return string
function packet.ipv4(b, at) end

---Writes an address as four bytes.
---@param b buffer
---@param at number
---@param address string
function packet.set_ipv4(b, at, address) end

---Sixteen bytes as an address.
---@param b buffer
---@param at number
---@return string
function packet.ipv6(b, at) end

---Writes an address as sixteen bytes.
---@param b buffer
---@param at number
---@param address string
function packet.set_ipv6(b, at, address) end

---`n` bytes as text.
---@param b buffer
---@param at number
---@param n number
---@return string
function packet.text(b, at, n) end

---Writes text over what is there; gives the offset behind it.
---@param b buffer
---@param at number
---@param text string
---@return number
function packet.set_text(b, at, text) end

---Text up to a zero byte that lies before `n`, and the offset behind the zero; nil when there is none.
---@param b buffer
---@param at number
---@param n? number
---@return string?
---@return number?
function packet.cstring(b, at, n) end

---Where a text begins, among the first `n` bytes and from `from` on. Plain bytes, no pattern.
---@param b buffer
---@param n number
---@param text string
---@param from? number
---@return number?
function packet.find(b, n, text, from) end

---What lies between two texts: where it begins, and where it ends (the first byte of `close`).
---@param b buffer
---@param n number
---@param open string
---@param close string
---@param from? number
---@return number?
---@return number?
function packet.between(b, n, open, close, from) end

---Puts a text where the bytes from `from` up to but not including `to` are, moves what follows, and gives the packet's new length.
---@param b buffer
---@param n number
---@param from number
---@param to number
---@param text string
---@return number
function packet.splice(b, n, from, to, text) end

---Whether these bytes are at an offset, written as in profiles: `"ff ff 54"`. False when the packet is too short.
---@param b buffer
---@param n number
---@param at number
---@param hex string
---@return boolean
function packet.equals(b, n, at, hex) end

---Bytes as hex text, for the log; at most 256.
---@param b buffer
---@param at number
---@param n number
---@return string
function packet.hex(b, at, n) end

---Another file of the plugin: `require("./text")` is text.luau (or text.lua) in the plugin's folder. Paths count from that folder. Each file runs once.
---@param name string
---@return any
function require(name) end

---As `lanrage.log`.
---@param ... any
function print(...) end

-- What Luau has beyond Lua 5.1.

---@param size number
---@return buffer
function buffer.create(size) end

---@param text string
---@return buffer
function buffer.fromstring(text) end

---@param b buffer
---@return string
function buffer.tostring(b) end

---@param b buffer
---@return number
function buffer.len(b) end

---@param b buffer
---@param at number
---@return number
function buffer.readi8(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readu8(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readi16(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readu16(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readi32(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readu32(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readf32(b, at) end

---@param b buffer
---@param at number
---@return number
function buffer.readf64(b, at) end

---@param b buffer
---@param bit number
---@param count number
---@return number
function buffer.readbits(b, bit, count) end

---@param b buffer
---@param at number
---@param value number
function buffer.writei8(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writeu8(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writei16(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writeu16(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writei32(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writeu32(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writef32(b, at, value) end

---@param b buffer
---@param at number
---@param value number
function buffer.writef64(b, at, value) end

---@param b buffer
---@param bit number
---@param count number
---@param value number
function buffer.writebits(b, bit, count, value) end

---@param b buffer
---@param at number
---@param n number
---@return string
function buffer.readstring(b, at, n) end

---@param b buffer
---@param at number
---@param text string
---@param n? number
function buffer.writestring(b, at, text, n) end

---@param to buffer
---@param at number
---@param from buffer
---@param from_at? number
---@param n? number
function buffer.copy(to, at, from, from_at, n) end

---@param b buffer
---@param at number
---@param value number
---@param n? number
function buffer.fill(b, at, value, n) end

---@param ... number
---@return number
function bit32.band(...) end

---@param ... number
---@return number
function bit32.bor(...) end

---@param ... number
---@return number
function bit32.bxor(...) end

---@param n number
---@return number
function bit32.bnot(n) end

---@param ... number
---@return boolean
function bit32.btest(...) end

---@param n number
---@param by number
---@return number
function bit32.lshift(n, by) end

---@param n number
---@param by number
---@return number
function bit32.rshift(n, by) end

---@param n number
---@param by number
---@return number
function bit32.arshift(n, by) end

---@param n number
---@param by number
---@return number
function bit32.lrotate(n, by) end

---@param n number
---@param by number
---@return number
function bit32.rrotate(n, by) end

---@param n number
---@param field number
---@param width? number
---@return number
function bit32.extract(n, field, width) end

---@param n number
---@param value number
---@param field number
---@param width? number
---@return number
function bit32.replace(n, value, field, width) end

---@param n number
---@return number
function bit32.byteswap(n) end

---@param n number
---@return number
function bit32.countlz(n) end

---@param n number
---@return number
function bit32.countrz(n) end

---@param s string
---@param separator? string
---@return string[]
function string.split(s, separator) end

---@param count number
---@param value? any
---@return any[]
function table.create(count, value) end

---@param list any[]
---@param value any
---@param from? number
---@return number?
function table.find(list, value, from) end

---@param t any[]
function table.clear(t) end

---@param t any[]
---@return any[]
function table.clone(t) end

---@param t any[]
---@return any[]
function table.freeze(t) end

---@param t any[]
---@return boolean
function table.isfrozen(t) end

---@param from any[]
---@param first number
---@param last number
---@param at number
---@param to? any[]
---@return any[]
function table.move(from, first, last, at, to) end

---@param list any[]
---@param first? number
---@param last? number
---@return any ...
function table.unpack(list, first, last) end

---@param n number
---@param low number
---@param high number
---@return number
function math.clamp(n, low, high) end

---@param n number
---@return number
function math.round(n) end

---@param n number
---@return number
function math.sign(n) end

---@param value any
---@return string
function typeof(value) end
