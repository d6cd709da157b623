//! Every setting by name: how the config file, the environment and the command line spell it, and what shape it has.

/// The shape of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One text.
    Text,
    /// Texts; a single one may stand alone. Separated by commas in the environment.
    List,
    /// `true` or `false`; in the environment also `1` and `0`.
    Switch,
    /// A time in seconds, also `0.5`.
    Seconds,
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// In the config file; a dot stands for a table.
    pub name: &'static str,
    /// In the environment.
    pub env: &'static str,
    /// On the command line; empty when there is no such option.
    pub flag: &'static str,
    /// Its shape.
    pub kind: Kind,
}

const fn key(name: &'static str, env: &'static str, flag: &'static str, kind: Kind) -> Key {
    Key { name, env, flag, kind }
}

/// All of them. `docs/commands.md` lists the same; a test compares.
pub const KEYS: &[Key] = &[
    key("game", "LANRAGE_GAME", "--game", Kind::List),
    key("join", "LANRAGE_JOIN", "--join", Kind::Text),
    key("name", "LANRAGE_NAME", "--name", Kind::Text),
    key("mode", "LANRAGE_MODE", "--mode", Kind::Text),
    key("control", "LANRAGE_CONTROL", "--control", Kind::List),
    key("listen", "LANRAGE_LISTEN", "--listen", Kind::List),
    key("cards", "LANRAGE_CARDS", "--cards", Kind::List),
    key("proxy_protocol", "LANRAGE_PROXY_PROTOCOL", "--proxy-protocol", Kind::List),
    key("share_lan", "LANRAGE_SHARE_LAN", "--share-lan", Kind::Switch),
    key("subnet", "LANRAGE_SUBNET", "--subnet", Kind::Text),
    key("adapter", "LANRAGE_ADAPTER", "--adapter", Kind::Text),
    key("relay", "LANRAGE_RELAY", "--relay", Kind::List),
    key("relay_secret", "LANRAGE_RELAY_SECRET", "--relay-secret", Kind::Text),
    key("friend_relay", "LANRAGE_FRIEND_RELAY", "--friend-relay", Kind::Switch),
    key("beacon", "LANRAGE_BEACON", "", Kind::Switch),
    key("port_mapping", "LANRAGE_PORT_MAPPING", "", Kind::Switch),
    key("open", "LANRAGE_OPEN", "--open", Kind::Switch),
    key("json", "LANRAGE_JSON", "--json", Kind::Switch),
    key("data_dir", "LANRAGE_DATA_DIR", "--data-dir", Kind::Text),
    key("profiles", "LANRAGE_PROFILES", "", Kind::List),
    key("plugin_index", "LANRAGE_PLUGIN_INDEX", "", Kind::List),
    key("server.listen", "LANRAGE_SERVER_LISTEN", "--listen", Kind::List),
    key("server.names", "LANRAGE_SERVER_NAMES", "", Kind::List),
    key("server.store", "LANRAGE_SERVER_STORE", "--store", Kind::Text),
    key("server.tls_cert", "LANRAGE_TLS_CERT", "--tls-cert", Kind::Text),
    key("server.tls_key", "LANRAGE_TLS_KEY", "--tls-key", Kind::Text),
    key("server.relay", "LANRAGE_SERVER_RELAY", "--relay", Kind::List),
    key("server.public_ip", "LANRAGE_PUBLIC_IP", "--public-ip", Kind::List),
    key("server.relay_secret", "LANRAGE_SERVER_RELAY_SECRET", "--relay-secret", Kind::Text),
    key("server.no_relay", "LANRAGE_NO_RELAY", "--no-relay", Kind::Switch),
    key("server.tls_self_signed", "LANRAGE_TLS_SELF_SIGNED", "--tls-self-signed", Kind::Switch),
    key("timing.heartbeat", "LANRAGE_HEARTBEAT", "", Kind::Seconds),
    key("timing.away_after", "LANRAGE_AWAY_AFTER", "", Kind::Seconds),
    key("timing.gone_after", "LANRAGE_GONE_AFTER", "", Kind::Seconds),
    key("timing.keepalive", "LANRAGE_KEEPALIVE", "", Kind::Seconds),
    key("timing.backoff_first", "LANRAGE_BACKOFF_FIRST", "", Kind::Seconds),
    key("timing.backoff_most", "LANRAGE_BACKOFF_MOST", "", Kind::Seconds),
    key("timing.sweep", "LANRAGE_SWEEP", "", Kind::Seconds),
];

/// Variables that are read elsewhere: the config file's place and the log's filter.
pub const OTHER_VARIABLES: &[&str] = &["LANRAGE_CONFIG", "LANRAGE_LOG"];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_is_used_twice() {
        for (i, key) in KEYS.iter().enumerate() {
            for other in KEYS.iter().skip(i + 1) {
                assert!(key.name != other.name && key.env != other.env, "{}", key.name);
            }
        }
    }

    #[test]
    fn every_setting_is_documented() {
        let page = include_str!("../../../docs/commands.md");
        for key in KEYS {
            let last = key.name.rsplit('.').next().unwrap();
            assert!(page.contains(&format!("`{last}`")), "{} is missing in docs/commands.md", key.name);
            assert!(page.contains(&format!("`{}`", key.env)), "{} is missing in docs/commands.md", key.env);
        }
    }
}
