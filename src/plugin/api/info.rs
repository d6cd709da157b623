//! `info`: what a hook is told about its packet besides the bytes. A frozen table, kept for the next packet of the same
//! way, so that a field costs no more than any field; `now` alone is asked for (by its metatable, in the prelude).

use crate::model::id::{PeerId, ProfileId};
use crate::model::script::ScriptPacket;
use mlua::{Lua, Table};
use std::net::{Ipv4Addr, SocketAddr};

/// The tables that are kept: more than the ways of a party's busiest game.
const KEPT: usize = 16;

/// The tables of the last ways, the last one first.
#[derive(Debug)]
pub(in crate::plugin) struct Infos {
    kept: Vec<(Way, Table)>,
    /// The metatable of all of them.
    meta: Table,
}

#[derive(Debug, PartialEq, Eq)]
struct Way {
    peer: Option<PeerId>,
    from: SocketAddr,
    to: SocketAddr,
    me: Ipv4Addr,
    game: ProfileId,
}

impl Way {
    fn is_of(&self, packet: &ScriptPacket) -> bool {
        self.from == packet.from
            && self.to == packet.to
            && self.peer == packet.peer
            && self.me == packet.me
            && self.game == packet.game
    }
}

impl Infos {
    pub(in crate::plugin) const fn new(meta: Table) -> Self {
        Self { kept: Vec::new(), meta }
    }

    /// The table of this packet.
    pub(in crate::plugin) fn of(&mut self, lua: &Lua, packet: &ScriptPacket) -> mlua::Result<Option<&Table>> {
        match self.kept.iter().position(|(way, _)| way.is_of(packet)) {
            Some(0) => {}
            Some(at) => self.kept.swap(0, at),
            None => {
                let table = self.made(lua, packet)?;
                self.kept.truncate(KEPT - 1);
                let way = Way {
                    peer: packet.peer,
                    from: packet.from,
                    to: packet.to,
                    me: packet.me,
                    game: packet.game.clone(),
                };
                self.kept.insert(0, (way, table));
            }
        }
        Ok(self.kept.first().map(|(_, table)| table))
    }

    fn made(&self, lua: &Lua, packet: &ScriptPacket) -> mlua::Result<Table> {
        let table = lua.create_table_with_capacity(0, 7)?;
        if let Some(peer) = packet.peer {
            table.raw_set("peer", peer.to_string())?;
        }
        table.raw_set("from", packet.from.ip().to_string())?;
        table.raw_set("from_port", packet.from.port())?;
        table.raw_set("to", packet.to.ip().to_string())?;
        table.raw_set("to_port", packet.to.port())?;
        table.raw_set("me", packet.me.to_string())?;
        table.raw_set("game", packet.game.0.as_str())?;
        table.set_metatable(Some(self.meta.clone()))?;
        table.set_readonly(true);
        Ok(table)
    }
}
