//! The keys of a profile as a JSON schema, for editors: one table, from which `lanrage games schema` prints
//! `docs/profile.schema.json`.
//!
//! The schema says what a key is called, what it is for and what kind of value it takes. What depends on other keys, and
//! every number's exact limits, is `check`'s to say. `tests/machine/profile_schema.rs` keeps table, parser and file equal.

use serde_json::{Map, Value, json};

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The table must have it.
    pub needed: bool,
    kind: Kind,
    what: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Truth,
    Whole(u32, u32),
    Number,
    Words(&'static [&'static str]),
    /// A port, a range, or a list of them.
    Ports,
    /// Such a value or a list of them.
    Some(&'static Self),
    /// A list of such values.
    List(&'static Self),
    /// This table.
    Table(&'static str),
    /// Any of these.
    Either(&'static [Self]),
}

const fn key(name: &'static str, kind: Kind, what: &'static str) -> Key {
    Key { name, needed: false, kind, what }
}

const fn need(name: &'static str, kind: Kind, what: &'static str) -> Key {
    Key { name, needed: true, kind, what }
}

/// All tables of a profile, the profile itself first: the name of each and its keys.
pub const TABLES: &[(&str, &[&[Key]])] = &[
    ("profile", &[PROFILE]),
    ("play", &[PLAY]),
    ("proxy", &[PROXY]),
    ("rule", &[RULE]),
    ("match", &[MATCH]),
    ("pace", &[PACE]),
    ("ask", &[ASK]),
    ("text", &[COLOUR, FORM, PLACE]),
    ("number", &[FORM, PLACE]),
    ("game_port", &[FORM, OR, PLACE]),
    ("opens", &[TRANSPORT, FORM, OR, PLACE]),
    ("rewrite", &[AS, PLACE]),
];

/// The schema, as it is printed and as the file has it.
#[must_use]
pub fn text() -> String {
    let mut tables: Map<String, Value> =
        TABLES.iter().map(|(name, keys)| ((*name).to_owned(), table(keys))).collect();
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("A game profile of lanrage"));
    if let Some(Value::Object(profile)) = tables.remove("profile") {
        schema.extend(profile);
    }
    schema.insert("definitions".to_owned(), Value::Object(tables));
    format!("{:#}\n", Value::Object(schema))
}

fn table(keys: &[&[Key]]) -> Value {
    let all = || keys.iter().flat_map(|keys| keys.iter());
    let mut properties = Map::new();
    for key in all() {
        let mut value = schema_of(key.kind);
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), json!(key.what));
        }
        properties.insert(key.name.to_owned(), value);
    }
    let needed: Vec<&str> = all().filter(|key| key.needed).map(|key| key.name).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": needed })
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Truth => json!({ "type": "boolean" }),
        Kind::Whole(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Words(words) => json!({ "enum": words }),
        Kind::Ports => {
            let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
            either(&[
                port.clone(),
                json!({ "type": "string" }),
                list(&either(&[port, json!({ "type": "string" })])),
            ])
        }
        Kind::Some(kind) => either(&[schema_of(*kind), list(&schema_of(*kind))]),
        Kind::List(kind) => list(&schema_of(*kind)),
        // Beside a `$ref` older readers see nothing else, so it stands alone.
        Kind::Table(name) => json!({ "allOf": [{ "$ref": format!("#/definitions/{name}") }] }),
        Kind::Either(kinds) => either(&kinds.iter().map(|kind| schema_of(*kind)).collect::<Vec<_>>()),
    }
}

fn either(any: &[Value]) -> Value {
    json!({ "anyOf": any })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

const TEXTS: Kind = Kind::Some(&Kind::Text);
const PORT: Kind = Kind::Either(&[Kind::Whole(1024, 65535), Kind::Words(&["source"])]);
const SIDES: Kind = Kind::Words(&["both", "game", "peer"]);
const ORDERS: Kind = Kind::Words(&["be", "le"]);
const TRANSPORTS: Kind = Kind::Words(&["tcp", "udp"]);
const ELSE: Kind = Kind::Words(&["forward", "drop"]);
const OFFSET: Kind = Kind::Whole(0, 65507);

const PROFILE: &[Key] = &[
    need("id", Kind::Text, "the name on the command line and of the file: a-z, 0-9 and -"),
    need("name", Kind::Text, "the name for people"),
    key("aliases", TEXTS, "other names on the command line"),
    key("processes", TEXTS, "names of the game's programs"),
    key("family", Kind::Text, "profiles of one family may want the same packets"),
    need("evidence", Kind::Words(&["captured", "documented", "unverified"]), "how sure the profile is"),
    key("tested_on", TEXTS, "versions it was tried with"),
    key("note", Kind::Text, "what people should know"),
    key("plugin", Kind::Text, "the plugin that may be asked about this game's packets"),
    key("play", Kind::Table("play"), "ports to play on"),
    key("proxy", Kind::Table("proxy"), "whether the game can be played through a proxy"),
    key(
        "rule",
        Kind::List(&Kind::Table("rule")),
        "discovery packets, in order: the first rule that fits wins",
    ),
];

const PLAY: &[Key] = &[
    key("tcp", Kind::Ports, "TCP ports that are open to the party while the game runs"),
    key("udp", Kind::Ports, "UDP ports that are open to the party while the game runs"),
    key("join", TRANSPORTS, "how a game in the list is joined"),
    key("dynamic", Kind::Truth, "no port is fixed: all are learned from announcements and answers"),
    key("peers", Kind::Truth, "members of one game talk to each other, not only to the one who opened it"),
];

const PROXY: &[Key] = &[
    need("works", Kind::Truth, "whether the game can be played through a proxy"),
    key("why", Kind::Text, "why not, or what to mind; needed when it does not work"),
];

const RULE: &[Key] = &[
    need("kind", Kind::Words(&["announcement", "query", "answer", "closing"]), "what such a packet is"),
    key("side", SIDES, "only what the local game sends, or only what peers send"),
    key("port", Kind::Ports, "destination ports; needed unless the rule is for unicast answers"),
    key("from_port", Kind::Ports, "source ports, or \"any\""),
    key("to", TEXTS, "\"limited\", \"directed\", \"broadcast\", \"unicast\", \"group:ADDRESS\""),
    key(
        "length",
        Kind::Either(&[OFFSET, Kind::Text]),
        "bytes of payload: a number or a range such as \"12-600\"",
    ),
    key("match", Kind::Some(&Kind::Table("match")), "what the payload has; all of these"),
    key("pace", Kind::Table("pace"), "how often such packets are forwarded"),
    key("life", Kind::Whole(1, 3600), "seconds that a game stays listed after its last sign of life"),
    key("rhythm", Kind::Number, "seconds between announcements as the game makes them"),
    key("answers_within", Kind::Whole(1, 60), "for queries: seconds that answers are let in"),
    key(
        "answers_tcp",
        Kind::Ports,
        "for queries: TCP ports of the asker to which answers come by a new connection",
    ),
    key("keep_source_port", Kind::Truth, "the other end only listens to packets from this very port"),
    key(
        "opens",
        Kind::Either(&[PORT, Kind::Table("opens")]),
        "for answers: a port of the sender that is open for a minute",
    ),
    key(
        "deliver",
        Kind::Words(&["same", "limited", "directed", "multicast"]),
        "how the receiver's games get it",
    ),
    key("lists", Kind::Truth, "false: it does not stand for a game in the list, such as a challenge"),
    key("title", Kind::Table("text"), "where the game's title is"),
    key("map", Kind::Table("text"), "where the map's name is"),
    key("version", Kind::Table("text"), "where the game's version is"),
    key("players", Kind::Table("number"), "where the number of players is"),
    key("max_players", Kind::Table("number"), "where the number of places is"),
    key("game_port", Kind::Either(&[PORT, Kind::Table("game_port")]), "the port to join"),
    key("rewrite", Kind::List(&Kind::Table("rewrite")), "addresses in the payload"),
    key("ask", Kind::Either(&[ELSE, Kind::Table("ask")]), "the profile's plugin is asked about such packets"),
    key("note", Kind::Text, "what people should know"),
];

const MATCH: &[Key] = &[
    key("at", OFFSET, "the offset in the payload"),
    key("text", TEXTS, "this text, or any one of a list"),
    key("hex", TEXTS, "these bytes, or any one of a list; ?? stands for any byte"),
    key("mask", Kind::Text, "hexadecimal bytes: only these bits count"),
];

const PACE: &[Key] = &[
    key("per_second", Kind::Whole(1, 1000), "packets per second"),
    key("burst", Kind::Whole(1, 1000), "packets at once"),
];

const ASK: &[Key] = &[
    need("else", ELSE, "what happens without an answer"),
    key("side", SIDES, "about what peers send, what the local game sends, or both"),
    key("within_ms", Kind::Whole(1, 50), "milliseconds that an answer is waited for"),
];

const COLOUR: &[Key] =
    &[key("colour", Kind::Text, "the mark before a colour; it and the character behind it are left out")];
const OR: &[Key] = &[key("or", PORT, "for packets that have none there")];
const TRANSPORT: &[Key] = &[key("transport", TRANSPORTS, "what is opened; UDP unless told")];

const AS: &[Key] = &[need(
    "as",
    Kind::Words(&["host", "host:port", "ipv4", "ipv4-le", "ipv6", "port", "port-be", "port-le"]),
    "what lies there",
)];

const FORM: &[Key] = &[
    key("u8", Kind::Truth, "a number in one byte"),
    key("u16", ORDERS, "a number in two bytes, high or low byte first"),
    key("u32", ORDERS, "a number in four bytes, high or low byte first"),
];

const PLACE: &[Key] = &[
    key("at", OFFSET, "the offset to start at"),
    key(
        "skip",
        Kind::Some(&Kind::Either(&[
            Kind::Whole(1, 65507),
            Kind::Words(&["nul", "counted", "counted32", "varint"]),
        ])),
        "steps from there",
    ),
    key("string", Kind::Words(&["nul", "counted", "counted32", "wide"]), "how a text ends"),
    key("between", Kind::List(&Kind::Text), "between two markers"),
    key("key", Kind::Text, "the value of this key in a list of keys and values"),
    key("field", Kind::Whole(0, 63), "the field with this number of a list"),
    key("separator", Kind::Text, "the character between fields, or between keys and values"),
];
