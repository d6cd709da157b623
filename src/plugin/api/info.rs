//! `info`: what a hook is told about its packet besides the bytes. One object, filled anew for every call, so that
//! nothing is made for a field that nobody reads. Read-only: it has no way to be written.

use super::Desk;
use crate::model::id::PeerId;
use crate::model::script::ScriptPacket;
use mlua::{UserData, UserDataFields};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The packet that is asked about.
#[derive(Debug)]
pub(in crate::plugin) struct Info {
    peer: Option<PeerId>,
    from: SocketAddr,
    to: SocketAddr,
    me: Ipv4Addr,
    game: String,
}

impl Info {
    pub(in crate::plugin) const fn new() -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { peer: None, from: nowhere, to: nowhere, me: Ipv4Addr::UNSPECIFIED, game: String::new() }
    }

    pub(in crate::plugin) fn fill(&mut self, packet: &ScriptPacket) {
        self.peer = packet.peer;
        self.from = packet.from;
        self.to = packet.to;
        self.me = packet.me;
        self.game.clear();
        self.game.push_str(&packet.game.0);
    }
}

impl UserData for Info {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("peer", |_, info| Ok(info.peer.map(|peer| peer.to_string())));
        fields.add_field_method_get("from", |_, info| Ok(info.from.ip().to_string()));
        fields.add_field_method_get("from_port", |_, info| Ok(info.from.port()));
        fields.add_field_method_get("to", |_, info| Ok(info.to.ip().to_string()));
        fields.add_field_method_get("to_port", |_, info| Ok(info.to.port()));
        fields.add_field_method_get("me", |_, info| Ok(info.me.to_string()));
        fields.add_field_method_get("game", |lua, info| lua.create_string(&info.game));
        fields.add_field_method_get("now", |lua, _| Ok(Desk::read(lua, Desk::seconds)));
    }
}
