//! From what was typed, set and written to what is meant.
//!
//! `layers` folds config file, environment and flags (all texts, each with its origin); `file` reads the config file with positions;
//! `keys` names every setting once. The checks here make a `RunConfig` or `ServeConfig`, which cannot be wrong: whoever gets one
//! asks no more questions.

pub mod keys;
pub mod layers;

mod file;
mod player;
mod profiles;
pub mod relays;
mod timing;

pub use profiles::{PROFILE_BYTES, profiles};

use crate::app::failure::Failure;
use crate::app::plugins::found::{self, Plugins};
use crate::engine::effect::Knobs;
use crate::host::control::ControlChoice;
use crate::model::addr::Subnet;
use crate::model::limits;
use crate::server::Tls;
use crate::server::relay::RelayOptions;
use crate::ui::cli::args::{DoctorArgs, GlobalArgs, RunArgs, ServerArgs};
use crate::wire::invite::{ControlHint, Invite};
pub(in crate::app) use file::read_text;
use layers::{Layers, Variables};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where a `lanrage server` listens when nobody says.
const SERVER_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8667);
/// The device's name when nobody says.
const ADAPTER: &str = "lanrage0";
/// Characters of a device's name (IFNAMSIZ on Linux, with its NUL).
const ADAPTER_CHARS: usize = 15;
/// Characters of a relay's secret at least; each of them is worth six bits at best.
const RELAY_SECRET_CHARS: usize = 16;
/// The file in which a node remembers its parties.
const PARTY: &str = "party.json";

/// How the player wants the game's packets to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeWish {
    /// A device where one may be made.
    Auto,
    /// A device, or an error.
    Lan,
    /// No device.
    Proxy,
}

/// Everything `run` needs, checked.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The games, by id or alias as typed; at least one.
    pub games: Vec<String>,
    /// The party to join.
    pub join: Option<Invite>,
    /// What the others call this player.
    pub name: String,
    /// How packets get in and out.
    pub mode: ModeWish,
    /// The control planes; none: those that the party had last time.
    pub control: Vec<ControlChoice>,
    /// Addresses of the tunnel; empty: any free port of every card.
    pub listen: Vec<SocketAddr>,
    /// Cards to listen on; `None`: all that are up.
    pub cards: Option<Vec<String>>,
    /// In proxy mode, TCP ports of own games that are told who connects.
    pub proxy_protocol: Vec<u16>,
    /// Other computers of the player's own networks see and join the games that were found; proxy mode only.
    pub share_lan: bool,
    /// The network of a new party.
    pub subnet: Option<Subnet>,
    /// Name of the device.
    pub adapter: String,
    /// Be found in the same house, and find others there.
    pub beacon: bool,
    /// Ask the router to open a port.
    pub port_mapping: bool,
    /// Pass packets on for two others that find no direct way; when nobody says, only the host does.
    pub friend_relay: Option<bool>,
    /// Relays beside those that control planes offer.
    pub relays: Vec<relays::RelayWish>,
    /// Let all ports in.
    pub open: bool,
    /// Events as JSON.
    pub json: bool,
    /// The game to start.
    pub command: Vec<OsString>,
    /// Where the node keeps its things.
    pub data_dir: PathBuf,
    /// Timeouts.
    pub knobs: Knobs,
    /// The player's own profiles: file name and text.
    pub profiles: Vec<(String, String)>,
    /// A fresh party instead of the own one.
    pub fresh: bool,
    /// The plugins that are there.
    pub plugins: Plugins,
    /// Where profiles and plugins are edited while the node runs.
    pub dev: Option<Dev>,
}

/// What `run --dev` reads again when it changed.
#[derive(Debug, Clone)]
pub struct Dev {
    /// The settings, for the folders of profiles.
    pub layers: Layers,
    /// Folders with plugins.
    pub plugin_dirs: Vec<PathBuf>,
}

impl Dev {
    /// The named folders, or the current one when it is a plugin's.
    fn of(run: &RunArgs, layers: &Layers) -> Result<Option<Self>, Failure> {
        if !run.dev {
            return Ok(None);
        }
        if let Some(missing) = run.plugin_dir.iter().find(|dir| !dir.is_dir()) {
            let what = format!("--plugin-dir: there is no folder {}", missing.display());
            return Err(Failure::usage(
                "no_plugin_dir",
                what,
                "`lanrage plugin new` makes one to start from",
            ));
        }
        let mut plugin_dirs = run.plugin_dir.clone();
        if plugin_dirs.is_empty() && std::path::Path::new(found::MANIFEST).is_file() {
            plugin_dirs.extend(std::env::current_dir());
        }
        Ok(Some(Self { layers: layers.clone(), plugin_dirs }))
    }
}

/// Everything `server` needs, checked.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where it keeps parties.
    pub data_dir: PathBuf,
    /// Encryption of the connections.
    pub tls: Tls,
    /// The relay beside it.
    pub relay: Option<RelayOptions>,
    /// The names under which players reach it; empty: any.
    pub names: Vec<String>,
    /// Between two sweeps of silent peers.
    pub sweep: Duration,
    /// Timeouts that both ends must agree on.
    pub knobs: Knobs,
}

/// The layers for commands without options of their own.
///
/// # Errors
/// When the config file cannot be read.
pub fn common(global: &GlobalArgs, variables: &Variables) -> Result<Layers, Failure> {
    Layers::fold(global.config.as_deref(), variables, [data_dir_flag(global)])
}

/// The layers for `run`.
///
/// # Errors
/// When the config file cannot be read.
pub fn for_run(global: &GlobalArgs, run: &RunArgs, variables: &Variables) -> Result<Layers, Failure> {
    let one = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
    let switch = |on: bool| if on { vec!["true".to_owned()] } else { Vec::new() };
    let flags = [
        data_dir_flag(global),
        ("game", run.games.clone()),
        ("join", one(&run.join)),
        ("name", one(&run.name)),
        ("mode", one(&run.mode)),
        ("control", run.control.clone()),
        ("listen", run.listen.clone()),
        ("cards", run.cards.clone()),
        ("proxy_protocol", run.proxy_protocol.clone()),
        ("share_lan", switch(run.share_lan)),
        ("subnet", one(&run.subnet)),
        ("adapter", one(&run.adapter)),
        ("relay", run.relay.clone()),
        ("relay_secret", one(&run.relay_secret)),
        ("friend_relay", one(&run.friend_relay)),
        ("open", switch(run.open)),
        ("json", switch(run.json)),
    ];
    Layers::fold(global.config.as_deref(), variables, flags)
}

/// The layers for `server`.
///
/// # Errors
/// When the config file cannot be read.
pub fn for_server(
    global: &GlobalArgs,
    server: &ServerArgs,
    variables: &Variables,
) -> Result<Layers, Failure> {
    let path = |file: &Option<PathBuf>| file.iter().map(|f| f.to_string_lossy().into_owned()).collect();
    let flags = [
        data_dir_flag(global),
        ("server.listen", server.listen.clone()),
        ("server.store", server.store.iter().cloned().collect()),
        ("server.tls_cert", path(&server.tls_cert)),
        ("server.tls_key", path(&server.tls_key)),
        ("server.relay", server.relay.clone()),
        ("server.public_ip", server.public_ip.clone()),
        ("server.relay_secret", server.relay_secret.iter().cloned().collect()),
        ("server.no_relay", if server.no_relay { vec!["true".to_owned()] } else { Vec::new() }),
        ("server.tls_self_signed", if server.tls_self_signed { vec!["true".to_owned()] } else { Vec::new() }),
    ];
    Layers::fold(global.config.as_deref(), variables, flags)
}

/// The layers for `doctor`.
///
/// # Errors
/// When the config file cannot be read.
pub fn for_doctor(
    global: &GlobalArgs,
    doctor: &DoctorArgs,
    variables: &Variables,
) -> Result<Layers, Failure> {
    let flags = [data_dir_flag(global), ("control", doctor.control.clone())];
    Layers::fold(global.config.as_deref(), variables, flags)
}

/// The name that the network device has, or will have.
///
/// # Errors
/// When a name was given that is none.
pub fn adapter_name(layers: &Layers) -> Result<String, Failure> {
    let given = layers.one("adapter", "such as lanrage0 or eth9", adapter)?;
    Ok(given.unwrap_or_else(|| ADAPTER.to_owned()))
}

fn data_dir_flag(global: &GlobalArgs) -> (&'static str, Vec<String>) {
    ("data_dir", global.data_dir.iter().map(|d| d.to_string_lossy().into_owned()).collect())
}

/// Where a node keeps its things.
///
/// # Errors
/// When nobody says and the system has no usual place.
pub fn data_dir(global: &GlobalArgs, layers: &Layers) -> Result<PathBuf, Failure> {
    // The option as it was typed: a path need not be text.
    if let Some(dir) = &global.data_dir {
        return Ok(dir.clone());
    }
    if let Some(dir) = layers.text("data_dir") {
        return Ok(PathBuf::from(dir));
    }
    let dirs = directories::ProjectDirs::from("", "", "lanrage").ok_or_else(|| {
        let what = "this system names no home folder to keep the node's key in";
        Failure::new("no_data_dir", what, "name a folder with --data-dir DIR")
    })?;
    Ok(dirs.data_dir().to_path_buf())
}

impl RunConfig {
    /// What is meant.
    ///
    /// # Errors
    /// The first thing that is wrong, with its origin.
    pub fn check(global: &GlobalArgs, run: &RunArgs, layers: &Layers) -> Result<Self, Failure> {
        let data_dir = data_dir(global, layers)?;
        let games = layers.each("game", "`lanrage games list` shows all games", plain)?;
        if games.is_empty() {
            let what = "no game was named";
            return Err(Failure::usage("no_game", what, "--game minecraft; `lanrage games list` shows all"));
        }
        if games.len() > limits::GAMES {
            let what =
                format!("{} games at once are more than the {} that a peer runs", games.len(), limits::GAMES);
            return Err(Failure::usage("too_many_games", what, "name fewer games"));
        }
        let join = invite(layers)?;
        let share_lan = layers.switch("share_lan")?;
        let dev = Dev::of(run, layers)?;
        let dirs = dev.as_ref().map(|dev| dev.plugin_dirs.as_slice());
        let (profiles, plugins) = found::gather(&data_dir, || profiles(layers, &data_dir), dirs)?;
        Ok(Self {
            games,
            name: player::name(layers)?,
            mode: mode_for(layers, share_lan)?,
            share_lan,
            control: control(layers, join.as_ref(), !run.fresh && data_dir.join(PARTY).exists())?,
            listen: layers.each("listen", "write IP:PORT, such as 0.0.0.0:41641 or [::]:41641", address)?,
            cards: layers.raw("cards").map(|raw| raw.values.clone()),
            proxy_protocol: layers.each("proxy_protocol", "write TCP ports, such as 25565", tcp_port)?,
            subnet: subnet(layers, join.is_some())?,
            adapter: adapter_name(layers)?,
            beacon: layers.maybe_switch("beacon")?.unwrap_or(true),
            port_mapping: layers.maybe_switch("port_mapping")?.unwrap_or(true),
            friend_relay: layers.maybe_switch("friend_relay")?,
            relays: relays::wishes(layers)?,
            open: layers.switch("open")?,
            json: layers.switch("json")?,
            command: run.command.clone(),
            knobs: timing::knobs(layers)?,
            profiles,
            plugins,
            dev,
            data_dir,
            fresh: run.fresh,
            join,
        })
    }
}

impl ServeConfig {
    /// What is meant.
    ///
    /// # Errors
    /// The first thing that is wrong, with its origin.
    pub fn check(global: &GlobalArgs, layers: &Layers) -> Result<Self, Failure> {
        let redb = |text: &str| match text {
            "redb" => Ok(()),
            other => Err(format!("a store of kind `{}` is not in this version", other.escape_debug())),
        };
        layers.one("server.store", "redb", redb)?;
        let hint = "write IP:PORT, such as 0.0.0.0:8667";
        let listen = layers.each("server.listen", hint, address)?;
        Ok(Self {
            listen: if listen.is_empty() { vec![SERVER_LISTEN] } else { listen },
            names: layers.each("server.names", "write a host name, such as play.example.org", plain)?,
            data_dir: data_dir(global, layers)?,
            tls: tls(layers)?,
            relay: relay(layers)?,
            sweep: layers.seconds("timing.sweep")?.unwrap_or(limits::SWEEP),
            knobs: timing::knobs(layers)?,
        })
    }
}

/// The relay, unless nobody wants one.
fn relay(layers: &Layers) -> Result<Option<RelayOptions>, Failure> {
    let listen = layers.each("server.relay", "write IP:PORT, such as 0.0.0.0:3478", address)?;
    let public =
        layers.each("server.public_ip", "write an IP address without a port", str::parse::<IpAddr>)?;
    if let Some(raw) = layers.raw("server.public_ip")
        && let Some(wrong) = public.iter().find(|ip| ip.is_unspecified() || ip.is_multicast())
    {
        return Err(raw.wrong(format!("{wrong} is nobody's address"), "write the address that players reach"));
    }
    let long_enough = |text: &str| match text.len() {
        RELAY_SECRET_CHARS.. => Ok(text.to_owned()),
        short => Err(format!("a secret of {short} characters can be guessed")),
    };
    let hint = "write 16 characters or more, or leave it away: then one is drawn";
    let secret = layers.one("server.relay_secret", hint, long_enough)?;
    if layers.switch("server.no_relay")? {
        return Ok(None);
    }
    Ok(Some(RelayOptions { listen, public, secret, ..RelayOptions::default() }))
}

/// Both files, or a certificate of one's own, or nothing.
fn tls(layers: &Layers) -> Result<Tls, Failure> {
    let own = layers.switch("server.tls_self_signed")?;
    let file = |name| layers.text(name).map(PathBuf::from);
    match (file("server.tls_cert"), file("server.tls_key"), layers.raw("server.tls_self_signed")) {
        (None, None, _) => Ok(if own { Tls::SelfSigned } else { Tls::None }),
        (Some(_), _, Some(raw)) | (_, Some(_), Some(raw)) if own => {
            Err(raw
                .wrong("a certificate of its own, or that of files, but not both", "leave one of them away"))
        }
        (Some(cert), Some(key), _) => Ok(Tls::Files { cert, key }),
        (Some(_), None, _) => {
            Err(half(layers, "server.tls_cert", "a certificate needs its key", "--tls-key FILE"))
        }
        (None, Some(_), _) => {
            Err(half(layers, "server.tls_key", "a key needs its certificate", "--tls-cert FILE"))
        }
    }
}

fn half(layers: &Layers, name: &str, what: &str, missing: &str) -> Failure {
    let hint = format!("add {missing}");
    layers
        .raw(name)
        .map_or_else(|| Failure::usage("bad_option", what, hint.clone()), |raw| raw.wrong(what, &hint))
}

fn invite(layers: &Layers) -> Result<Option<Invite>, Failure> {
    let (Some(raw), Some(text)) = (layers.raw("join"), layers.text("join")) else { return Ok(None) };
    // Not wrong usage, even on the command line: the person who typed it cannot know what is right.
    let wrong = |e: crate::wire::invite::InviteError| {
        Failure::new("bad_invite", format!("the invite ({}): {e}", raw.origin), e.hint())
    };
    Invite::parse(text).map(Some).map_err(wrong)
}

/// Flags and variables decide; else an invite's own control planes; else the config file's. None at all is right only when a
/// party of an earlier evening is known, because its control planes are remembered with it.
fn control(layers: &Layers, join: Option<&Invite>, remembers: bool) -> Result<Vec<ControlChoice>, Failure> {
    let hint = "write auto, direct, file:DIR, or server:http://HOST:8667 for a `lanrage server`";
    let read = |text: &str| match text {
        "auto" => Ok(None),
        other => other.parse::<ControlChoice>().map_err(|e| e.to_string()).and_then(whole_path).map(Some),
    };
    let read = layers.each("control", hint, read)?;
    let auto = read.contains(&None);
    let mut given: Vec<_> = read.into_iter().flatten().collect();
    // `auto` beside others: those, and what is always possible.
    if auto && !given.is_empty() && !given.iter().any(|c| matches!(c, ControlChoice::Direct(_))) {
        given.push(ControlChoice::Direct(Vec::new()));
    }
    let of_now = layers.raw("control").is_some_and(layers::Raw::is_of_now);
    let invited = match join {
        Some(invite) if given.is_empty() || !of_now => of_invite(invite)?,
        Some(_) | None => Vec::new(),
    };
    let chosen = if invited.is_empty() { given } else { invited };
    // A party of one's own meets directly when no other place is named.
    if !chosen.is_empty() || remembers || join.is_none() {
        return Ok(chosen);
    }
    let what = "the invite does not say how the peers of its party find each other";
    let hint = "--control server:http://HOST:8667 (somebody runs `lanrage server` there), --control file:DIR (a shared folder), or --control direct:IP:PORT (a player's address)";
    Err(Failure::usage("no_control", what, hint))
}

/// Invites carry the folder's path, so it must not depend on where lanrage was started.
fn whole_path(choice: ControlChoice) -> Result<ControlChoice, String> {
    match choice {
        ControlChoice::Folder(dir) => match std::path::absolute(&dir) {
            Ok(whole) => Ok(ControlChoice::Folder(whole)),
            Err(e) => Err(format!("file:{}: {e}", dir.display())),
        },
        ControlChoice::Server(_) | ControlChoice::Direct(_) => Ok(choice),
    }
}

fn of_invite(invite: &Invite) -> Result<Vec<ControlChoice>, Failure> {
    let read = |hint: &ControlHint| match hint {
        ControlHint::Folder(dir) => Ok(ControlChoice::Folder(PathBuf::from(dir))),
        ControlHint::Server(url) => format!("server:{url}").parse::<ControlChoice>(),
        ControlHint::Direct(addresses) => Ok(ControlChoice::Direct(addresses.clone())),
    };
    let (good, bad): (Vec<_>, Vec<_>) = invite.control.iter().map(read).partition(Result::is_ok);
    match bad.into_iter().find_map(Result::err) {
        Some(why) if good.is_empty() => {
            let what = format!("the invite names a meeting place that this lanrage cannot use: {why}");
            Err(Failure::new("bad_invite", what, "ask its host for another one, or name one with --control"))
        }
        Some(_) | None => Ok(good.into_iter().flatten().collect()),
    }
}

fn subnet(layers: &Layers, joins: bool) -> Result<Option<Subnet>, Failure> {
    let subnet = layers.one("subnet", "such as 10.83.7.0/24", str::parse::<Subnet>)?;
    match layers.raw("subnet") {
        Some(raw) if joins && raw.is_of_now() => {
            Err(raw
                .wrong("the invite brings the party's network", "leave it away, or make a party of your own"))
        }
        Some(_) if joins => Ok(None),
        Some(_) | None => Ok(subnet),
    }
}

fn tcp_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{}` is no port", text.escape_debug())),
        Ok(port) => Ok(port),
    }
}

/// How packets get in and out. Games are shared with the own network by sockets, so that chooses proxy mode.
fn mode_for(layers: &Layers, share_lan: bool) -> Result<ModeWish, Failure> {
    match layers.one("mode", "auto, lan or proxy", mode)?.unwrap_or(ModeWish::Auto) {
        ModeWish::Lan if share_lan => Err(Failure::usage(
            "share_lan_by_proxy",
            "games are shared with your own network (share_lan) in proxy mode only, and lan mode was asked for",
            "leave --mode lan out, or --share-lan",
        )),
        ModeWish::Auto if share_lan => Ok(ModeWish::Proxy),
        wish @ (ModeWish::Auto | ModeWish::Lan | ModeWish::Proxy) => Ok(wish),
    }
}

fn mode(text: &str) -> Result<ModeWish, String> {
    match text {
        "auto" => Ok(ModeWish::Auto),
        "lan" => Ok(ModeWish::Lan),
        "proxy" => Ok(ModeWish::Proxy),
        other => Err(format!("`{}` is no mode", other.escape_debug())),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{}` is no address with a port", text.escape_debug()))
}

fn adapter(text: &str) -> Result<String, String> {
    let fits =
        (1..=ADAPTER_CHARS).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no name for a device: 1 to {ADAPTER_CHARS} letters and digits",
            text.escape_debug()
        ))
    }
}

/// Anything that can be a name of a game or a host.
fn plain(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 || text.chars().any(char::is_control) {
        return Err(format!("`{}` is no name", text.chars().take(64).collect::<String>().escape_debug()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
