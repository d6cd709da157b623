//! The plugins that come with the program: the folders of `plugins/`, without their tests and samples.

/// A plugin that comes with the program.
#[derive(Debug)]
pub struct Shipped {
    /// Its id, and its folder in `plugins/`.
    pub id: &'static str,
    /// Its files by name: `plugin.toml`, sources, and `profile.toml` where it brings one.
    pub files: &'static [(&'static str, &'static str)],
}

/// `plugin!("id": "plugin.toml", "main.luau")`.
macro_rules! plugin {
    ($id:literal: $($file:literal),+ $(,)?) => {
        Shipped {
            id: $id,
            files: &[$(($file, include_str!(concat!("../../plugins/", $id, "/", $file)))),+],
        }
    };
}

/// All of them, in the order of their ids. `tests/machine/plugin_store.rs` keeps this list and the folder equal.
pub const PLUGINS: &[Shipped] = &[
    plugin!("directplay": "plugin.toml", "main.luau"),
    plugin!("freeciv": "plugin.toml", "main.luau"),
    plugin!("minecraft-bedrock": "plugin.toml", "main.luau"),
    plugin!("minecraft-java": "plugin.toml", "main.luau"),
    plugin!("source-engine": "plugin.toml", "main.luau"),
    plugin!("warcraft3": "plugin.toml", "main.luau"),
];
