//! Everything that the API has, once: names, types, sentences, and since which version. The stubs for editors and the
//! page of the manual are made from this (`stubs`), and a test holds it against what a real state has.
//!
//! Types are written as Luau writes them. `LanrageInfo` and its like are the classes below.

/// A function, or a value when it has no parameters to write (`args` is `None`).
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) struct Entry {
    /// With its table, such as `packet.u8`.
    pub(in crate::plugin) name: &'static str,
    /// `b: buffer, at: number`.
    pub(in crate::plugin) args: Option<&'static str>,
    /// `number?, number?`, or nothing.
    pub(in crate::plugin) gives: &'static str,
    pub(in crate::plugin) text: &'static str,
    /// The API that brought it.
    pub(in crate::plugin) since: u16,
}

/// A table with known fields.
#[derive(Debug, Clone, Copy)]
pub(in crate::plugin) struct Class {
    pub(in crate::plugin) name: &'static str,
    pub(in crate::plugin) text: &'static str,
    /// Name, type, sentence.
    pub(in crate::plugin) fields: &'static [(&'static str, &'static str, &'static str)],
}

const fn function(
    name: &'static str,
    args: &'static str,
    gives: &'static str,
    text: &'static str,
    since: u16,
) -> Entry {
    Entry { name, args: Some(args), gives, text, since }
}

/// The hooks: what a plugin may define.
pub(in crate::plugin) const HOOKS: &[Entry] = &[
    function(
        "plugin.on_announcement",
        PACKET,
        VERDICT,
        "A server says it is there. Asked for packets of a rule with `kind = \"announcement\"` and `ask`.",
        1,
    ),
    function(
        "plugin.on_query",
        PACKET,
        VERDICT,
        "A client asks who is there. Asked for packets of a rule with `kind = \"query\"` and `ask`.",
        1,
    ),
    function(
        "plugin.on_answer",
        PACKET,
        VERDICT,
        "A server answers. Asked for packets of a rule with `kind = \"answer\"` and `ask`.",
        1,
    ),
    function(
        "plugin.describe",
        PACKET,
        "LanrageGame?",
        "What an announcement or an answer says of its game, for the party's list. The packet cannot be changed here.",
        1,
    ),
    function("plugin.on_peer_joined", "peer: LanragePeer", "", "Somebody is reachable now.", 1),
    function("plugin.on_peer_left", "peer: LanragePeer", "", "Somebody is gone.", 1),
    function("plugin.on_tick", "", "", "A second has passed while the game runs.", 1),
    function(
        "plugin.check",
        "",
        "string?",
        "What `lanrage doctor` should say about this game on this computer; nothing when all is well.",
        1,
    ),
];

const PACKET: &str = "b: buffer, n: number, info: LanrageInfo";
const VERDICT: &str = "LanrageVerdict, LanrageExtras?";

/// The tables that hooks are given and give.
pub(in crate::plugin) const CLASSES: &[Class] = &[
    Class {
        name: "LanrageInfo",
        text: "What is known of a packet besides its bytes. Read-only, and it stays as it is after the call; only `now` goes on.",
        fields: &[
            ("peer", "string?", "id of the peer that sent it; nil is the game on this computer"),
            ("from", "string", "source address, in the party's terms"),
            ("from_port", "number", "source port, the game's own"),
            ("to", "string", "destination address as the packet has it"),
            ("to_port", "number", "destination port"),
            ("me", "string", "this computer's virtual address"),
            ("game", "string", "id of the profile whose rule matched"),
            ("now", "number", "seconds, as `lanrage.now()`"),
        ],
    },
    Class {
        name: "LanrageExtras",
        text: "The second value that a packet hook may return.",
        fields: &[
            ("to", "{string}?", "ids of the only peers that get the packet (packets of the own game)"),
            ("teach", "number?", "so many seconds (at most 300) the same verdict holds without asking"),
            (
                "same",
                "boolean?",
                "with `teach`: only for packets of exactly these bytes (true, the default), or for all that the same \
                 rule gets from the same source (false; not with a changed packet)",
            ),
            ("open", "{LanrageOpen}?", "ports to open to the party, at most 8"),
        ],
    },
    Class {
        name: "LanrageOpen",
        text: "A port that the party may reach for a while.",
        fields: &[
            ("port", "number", "which; one of the plugin's own in plugin.toml"),
            ("tcp", "boolean?", "TCP; else UDP"),
            ("seconds", "number?", "for how long, at most 300; 60 when not said"),
            ("peer", "string?", "that peer's port for this computer; else this computer's for the party"),
        ],
    },
    Class {
        name: "LanrageSend",
        text: "A packet of the plugin's own. Addresses are always the true ones; a plugin names only ports.",
        fields: &[
            (
                "to_port",
                "number",
                "destination port; it or `from_port` is one of the plugin's own, and with `as_peer` it is, unless the game asked from it",
            ),
            ("from_port", "number", "source port"),
            ("payload", "string | buffer", "what it carries, at most 1,372 bytes"),
            ("n", "number?", "with a buffer: only its first n bytes"),
            ("to", "{string}?", "to the party: only to these peers"),
            ("as_peer", "string?", "to the game on this computer, as if this peer had sent it"),
            (
                "group",
                "string?",
                "a multicast group of plugin.toml; else broadcast, or this computer with `as_peer`",
            ),
        ],
    },
    Class {
        name: "LanragePeer",
        text: "A member of the party.",
        fields: &[
            ("id", "string", "its id"),
            ("name", "string", "what people call it"),
            ("address", "string", "its virtual address"),
        ],
    },
    Class {
        name: "LanrageGame",
        text: "What `describe` says of a game.",
        fields: &[
            ("title", "string?", "what the game calls itself, at most 80 characters"),
            ("map", "string?", "the map or scenario"),
            ("version", "string?", "the game's version"),
            ("players", "number?", "how many play"),
            ("most_players", "number?", "how many can"),
            ("port", "number?", "the port to join, one of the plugin's own; else what the profile says"),
            ("tcp", "boolean?", "joined by TCP; else UDP, or as the profile says"),
            ("over", "boolean?", "the game is over: take it from the lists"),
        ],
    },
];

/// What there is to call.
pub(in crate::plugin) const GLOBALS: &[Entry] = &[
    Entry { name: "lanrage.api", args: None, gives: "number", text: "The version of this API.", since: 1 },
    function(
        "lanrage.now",
        "",
        "number",
        "Seconds since some moment, with fractions. The only clock; it stands still during a call, and is 0 while the \
         plugin is loaded.",
        1,
    ),
    function(
        "lanrage.random",
        "low: number?, high: number?",
        "number",
        "As `math.random`: from 0 to 1, from 1 to `low`, or from `low` to `high`. The same numbers for the same seed.",
        1,
    ),
    function("lanrage.peers", "", "{LanragePeer}", "Who is in the party, in the order of their ids.", 1),
    function("lanrage.me", "", "string?", "This computer's virtual address, once a packet was seen.", 1),
    function(
        "lanrage.log",
        "...: any",
        "",
        "A line for the log, at most 16 a call of 300 characters each. `print` is the same.",
        1,
    ),
    function(
        "lanrage.send",
        "what: LanrageSend",
        "",
        "Sends a packet, at most 16 a call and 8 KiB in all. Needs `send = true` in plugin.toml. Sent only when the hook \
         ends without an error.",
        1,
    ),
    function("packet.u8", "b: buffer, at: number", "number", "The byte at an offset.", 1),
    function(
        "packet.u16be",
        "b: buffer, at: number",
        "number",
        "Two bytes, the high one first. Ports are written so.",
        1,
    ),
    function("packet.u16le", "b: buffer, at: number", "number", "Two bytes, the low one first.", 1),
    function("packet.u32be", "b: buffer, at: number", "number", "Four bytes, the highest first.", 1),
    function("packet.u32le", "b: buffer, at: number", "number", "Four bytes, the lowest first.", 1),
    function("packet.set_u8", "b: buffer, at: number, value: number", "", "Writes a byte.", 1),
    function(
        "packet.set_u16be",
        "b: buffer, at: number, value: number",
        "",
        "Writes two bytes, the high one first.",
        1,
    ),
    function(
        "packet.set_u16le",
        "b: buffer, at: number, value: number",
        "",
        "Writes two bytes, the low one first.",
        1,
    ),
    function(
        "packet.set_u32be",
        "b: buffer, at: number, value: number",
        "",
        "Writes four bytes, the highest first.",
        1,
    ),
    function(
        "packet.set_u32le",
        "b: buffer, at: number, value: number",
        "",
        "Writes four bytes, the lowest first.",
        1,
    ),
    function(
        "packet.ipv4",
        "b: buffer, at: number",
        "string",
        "Four bytes as an address, such as `10.77.1.9`.",
        1,
    ),
    function(
        "packet.set_ipv4",
        "b: buffer, at: number, address: string",
        "",
        "Writes an address as four bytes.",
        1,
    ),
    function("packet.ipv6", "b: buffer, at: number", "string", "Sixteen bytes as an address.", 1),
    function(
        "packet.set_ipv6",
        "b: buffer, at: number, address: string",
        "",
        "Writes an address as sixteen bytes.",
        1,
    ),
    function("packet.text", "b: buffer, at: number, n: number", "string", "`n` bytes as text.", 1),
    function(
        "packet.set_text",
        "b: buffer, at: number, text: string",
        "number",
        "Writes text over what is there; gives the offset behind it.",
        1,
    ),
    function(
        "packet.cstring",
        "b: buffer, at: number, n: number?",
        "string?, number?",
        "Text up to a zero byte that lies before `n`, and the offset behind the zero; nil when there is none.",
        1,
    ),
    function(
        "packet.find",
        "b: buffer, n: number, text: string, from: number?",
        "number?",
        "Where a text begins, among the first `n` bytes and from `from` on. Plain bytes, no pattern.",
        1,
    ),
    function(
        "packet.between",
        "b: buffer, n: number, open: string, close: string, from: number?",
        "number?, number?",
        "What lies between two texts: where it begins, and where it ends (the first byte of `close`).",
        1,
    ),
    function(
        "packet.splice",
        "b: buffer, n: number, from: number, to: number, text: string",
        "number",
        "Puts a text where the bytes from `from` up to but not including `to` are, moves what follows, and gives the \
         packet's new length.",
        1,
    ),
    function(
        "packet.equals",
        "b: buffer, n: number, at: number, hex: string",
        "boolean",
        "Whether these bytes are at an offset, written as in profiles: `\"ff ff 54\"`. False when the packet is too short.",
        1,
    ),
    function(
        "packet.hex",
        "b: buffer, at: number, n: number",
        "string",
        "Bytes as hex text, for the log; at most 256.",
        1,
    ),
    function(
        "require",
        "name: string",
        "any",
        "Another file of the plugin: `require(\"./text\")` is text.luau (or text.lua) in the plugin's folder. Paths count \
         from that folder. Each file runs once.",
        1,
    ),
    function("print", "...: any", "", "As `lanrage.log`.", 1),
];

/// What plain Lua 5.1 or Luau has and a plugin does not.
pub(in crate::plugin) const GONE: &[&str] =
    &["os", "io", "debug", "loadstring", "getfenv", "setfenv", "newproxy", "collectgarbage", "gcinfo"];

/// What Luau has beyond Lua 5.1, for editors that know only the latter: name, arguments, what it gives.
pub(in crate::plugin) const LUAU: &[(&str, &str, &str)] = &[
    ("buffer.create", "size: number", "buffer"),
    ("buffer.fromstring", "text: string", "buffer"),
    ("buffer.tostring", "b: buffer", "string"),
    ("buffer.len", "b: buffer", "number"),
    ("buffer.readi8", "b: buffer, at: number", "number"),
    ("buffer.readu8", "b: buffer, at: number", "number"),
    ("buffer.readi16", "b: buffer, at: number", "number"),
    ("buffer.readu16", "b: buffer, at: number", "number"),
    ("buffer.readi32", "b: buffer, at: number", "number"),
    ("buffer.readu32", "b: buffer, at: number", "number"),
    ("buffer.readf32", "b: buffer, at: number", "number"),
    ("buffer.readf64", "b: buffer, at: number", "number"),
    ("buffer.readbits", "b: buffer, bit: number, count: number", "number"),
    ("buffer.writei8", "b: buffer, at: number, value: number", ""),
    ("buffer.writeu8", "b: buffer, at: number, value: number", ""),
    ("buffer.writei16", "b: buffer, at: number, value: number", ""),
    ("buffer.writeu16", "b: buffer, at: number, value: number", ""),
    ("buffer.writei32", "b: buffer, at: number, value: number", ""),
    ("buffer.writeu32", "b: buffer, at: number, value: number", ""),
    ("buffer.writef32", "b: buffer, at: number, value: number", ""),
    ("buffer.writef64", "b: buffer, at: number, value: number", ""),
    ("buffer.writebits", "b: buffer, bit: number, count: number, value: number", ""),
    ("buffer.readstring", "b: buffer, at: number, n: number", "string"),
    ("buffer.writestring", "b: buffer, at: number, text: string, n: number?", ""),
    ("buffer.copy", "to: buffer, at: number, from: buffer, from_at: number?, n: number?", ""),
    ("buffer.fill", "b: buffer, at: number, value: number, n: number?", ""),
    ("bit32.band", "...: number", "number"),
    ("bit32.bor", "...: number", "number"),
    ("bit32.bxor", "...: number", "number"),
    ("bit32.bnot", "n: number", "number"),
    ("bit32.btest", "...: number", "boolean"),
    ("bit32.lshift", "n: number, by: number", "number"),
    ("bit32.rshift", "n: number, by: number", "number"),
    ("bit32.arshift", "n: number, by: number", "number"),
    ("bit32.lrotate", "n: number, by: number", "number"),
    ("bit32.rrotate", "n: number, by: number", "number"),
    ("bit32.extract", "n: number, field: number, width: number?", "number"),
    ("bit32.replace", "n: number, value: number, field: number, width: number?", "number"),
    ("bit32.byteswap", "n: number", "number"),
    ("bit32.countlz", "n: number", "number"),
    ("bit32.countrz", "n: number", "number"),
    ("string.split", "s: string, separator: string?", "{string}"),
    ("table.create", "count: number, value: any?", "{any}"),
    ("table.find", "list: {any}, value: any, from: number?", "number?"),
    ("table.clear", "t: {any}", ""),
    ("table.clone", "t: {any}", "{any}"),
    ("table.freeze", "t: {any}", "{any}"),
    ("table.isfrozen", "t: {any}", "boolean"),
    ("table.move", "from: {any}, first: number, last: number, at: number, to: {any}?", "{any}"),
    ("table.unpack", "list: {any}, first: number?, last: number?", "...any"),
    ("math.clamp", "n: number, low: number, high: number", "number"),
    ("math.round", "n: number", "number"),
    ("math.sign", "n: number", "number"),
    ("typeof", "value: any", "string"),
];
